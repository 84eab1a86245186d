"""May they: claims matched with grants, and the answers to those without one."""

from __future__ import annotations

import gc
from dataclasses import replace

import grpc
import pytest

from gateway.authorize import Authorizer, Permit, not_granted
from gateway.call import Call, read_call
from gateway.caller import Caller
from gateway.grants import Grant, matches, named
from gateway.rpcs import RPCS, Action
from protos import grpc_service_pb2 as pb
from protos.contract import SERVICE
from protos.errors import HeadraceError, Reason

ID = "https://id.example/"


def _caller(issuer: str = ID, **claims: object) -> Caller:
    return Caller(issuer, "tester", claims, 0.0)


def _grant(claims: dict[str, str] | None = None, *models: str, actions: str = "infer", issuer: str = ID) -> Grant:
    return Grant(issuer, claims or {}, models or ("digits",), frozenset(map(Action, actions.split())))


def _call(model: str, rpc: str = "ModelInfer", *, shared: bool = False) -> Call:
    if rpc != "ModelInfer":
        request = pb.ModelReadyRequest(name=model)
        return read_call(RPCS[f"/{SERVICE}/{rpc}"], request.SerializeToString())
    request = pb.ModelInferRequest(model_name=model)
    if shared:
        request.inputs.add(name="x").parameters["shared_memory_region"].string_param = "r"
    return read_call(RPCS[f"/{SERVICE}/ModelInfer"], request.SerializeToString())


def _refused(authorizer: Authorizer, caller: Caller, call: Call) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        authorizer.authorize(caller, call)
    return caught.value


@pytest.mark.parametrize(
    ("claim", "wanted", "match"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "A", False),
        ("ab", "a", False),
        ("a", "ab", False),
        ("a b", "a", True),
        ("a b", "b", True),
        ("a b", "a b", True),
        ("a  b c", "c", True),
        ("a b", "c", False),
        ("ab cd", "b c", False),
        ("infer:digits", "infer:*", True),
        ("openid infer:digits", "infer:*", True),
        ("openid infer:digits", "infer:d*", True),
        ("openid infer:digits", "digits*", False),
        ("infer:", "infer:*", True),
        ("infer", "infer:*", False),
        ("anything", "*", True),
        ("", "*", True),
        ("", "", True),
        ("a*", "a*", True),
        (["a", "b"], "b", True),
        (["a b"], "a", False),
        (["a b"], "a b", True),
        (["x", "infer:digits"], "infer:*", True),
        ([], "*", False),
        ([5, None, ["a"], {"a": 1}], "a", False),
        ([5], "5", False),
        (5, "5", False),
        (True, "True", False),
        (True, "*", False),
        (None, "None", False),
        (None, "*", False),
        ({"a": "a"}, "a", False),
    ],
)
def test_claims(claim: object, wanted: str, match: bool) -> None:
    assert matches(_grant({"scope": wanted}), _caller(scope=claim)) is match


@pytest.mark.parametrize("name", ["sub", "name", "email", "client_id"])
def test_who_the_caller_is_cannot_be_taken_apart(name: str) -> None:
    assert matches(_grant({name: "admin"}), _caller(**{name: "admin"}))
    assert not matches(_grant({name: "admin"}), _caller(**{name: "admin bob"}))


def test_a_claim_that_is_missing_never_matches() -> None:
    assert not matches(_grant({"scope": "*"}), _caller(team="red"))


def test_all_claims_must_match() -> None:
    grant = _grant({"scope": "infer:*", "team": "red"})
    assert matches(grant, _caller(scope="infer:x", team="red"))
    assert not matches(grant, _caller(scope="infer:x", team="blue"))
    assert not matches(grant, _caller(scope="infer:x"))
    assert not matches(grant, _caller(team="red"))


def test_a_grant_without_claims_is_for_all_of_its_issuer() -> None:
    assert matches(_grant(), _caller())
    assert not matches(_grant(), _caller("https://other.example/"))
    assert not matches(_grant({"scope": "a"}), _caller("https://other.example/", scope="a"))


@pytest.mark.parametrize(
    ("pattern", "model", "granted"),
    [
        ("digits", "digits", True),
        ("digits", "digits2", False),
        ("digits", "Digits", False),
        ("vision-*", "vision-a", True),
        ("vision-*", "vision-", True),
        ("vision-*", "vision", False),
        ("vision-*", "my-vision-a", False),
        ("*", "anything", True),
    ],
)
def test_models(pattern: str, model: str, granted: bool) -> None:
    authorizer = Authorizer([_grant({}, pattern)])
    caller = _caller()
    assert (model in authorizer.granted(caller, Action.INFER)) is granted
    if granted:
        assert authorizer.authorize(caller, _call(model)) == Permit(caller, model, Action.INFER)
    else:
        assert _refused(authorizer, caller, _call(model)).reason is Reason.NOT_GRANTED


def test_the_default_is_no() -> None:
    for grants in ([], [_grant({"scope": "other"})], [_grant(issuer="https://other.example/")]):
        error = _refused(Authorizer(grants), _caller(scope="infer"), _call("digits"))
        assert (error.status, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_GRANTED)


def test_grants_add_up_and_do_not_mix() -> None:
    authorizer = Authorizer(
        [
            _grant({"scope": "a"}, "one", actions="infer"),
            _grant({"scope": "b"}, "two-*", actions="inspect manage"),
            _grant({"scope": "c"}, "three", actions="infer inspect manage"),
        ]
    )
    caller = _caller(scope="a b")
    allowed = {
        (action.value, model)
        for action in Action
        for model in ("one", "two-x", "three")
        if model in authorizer.granted(caller, action)
    }
    assert allowed == {("infer", "one"), ("inspect", "two-x"), ("manage", "two-x")}


def test_the_action_is_the_rpcs() -> None:
    authorizer = Authorizer([_grant({}, "digits", actions="inspect")])
    caller = _caller()
    assert authorizer.authorize(caller, _call("digits", "ModelReady")).action is Action.INSPECT
    assert _refused(authorizer, caller, _call("digits")).reason is Reason.NOT_GRANTED


def test_the_refusal_does_not_tell_which_models_there_are() -> None:
    authorizer = Authorizer([_grant({}, "mine")])
    caller = _caller()
    known, unknown = (_refused(authorizer, caller, _call(model)) for model in ("digits", "no-such-model"))
    assert (known.status, known.reason, known.public) == (unknown.status, unknown.reason, unknown.public)
    assert "digits" not in known.public
    assert "digits" in known.private


def test_words_of_refusal() -> None:
    assert not_granted(_caller(), Action.MANAGE).public == "you have no grant to manage any model"
    assert not_granted(_caller(), Action.INFER, "digits").public == "you have no grant to infer this model"


def test_no_model_named() -> None:
    error = _refused(Authorizer([_grant({}, "digits")]), _caller(), _call(""))
    assert error.reason is Reason.NOT_GRANTED


# ---- shared memory ----


def test_shared_memory_takes_a_grant_to_manage_that_model() -> None:
    infer = _grant({}, "digits", actions="infer")
    caller = _caller()
    assert Authorizer([infer]).authorize(caller, _call("digits"))
    error = _refused(Authorizer([infer]), caller, _call("digits", shared=True))
    assert (error.status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.SHARED_MEMORY_REFUSED)
    both = Authorizer([infer, _grant({}, "dig*", actions="manage")])
    assert both.authorize(caller, _call("digits", shared=True)).action is Action.INFER
    others = Authorizer([infer, _grant({}, "other", actions="manage")])
    assert _refused(others, caller, _call("digits", shared=True)).reason is Reason.SHARED_MEMORY_REFUSED


def test_who_may_manage_but_not_infer_is_told_of_the_grant_alone() -> None:
    authorizer = Authorizer([_grant({}, "digits", actions="manage")])
    assert _refused(authorizer, _caller(), _call("digits", shared=True)).reason is Reason.NOT_GRANTED


# ---- many models ----


def test_permits_are_for_what_is_granted_alone() -> None:
    authorizer = Authorizer([_grant({}, "digits", "vision-*", actions="inspect")])
    caller = _caller()
    permits = authorizer.permits(caller, Action.INSPECT, ["other", "vision-a", "digits"])
    assert permits == tuple(Permit(caller, model, Action.INSPECT) for model in ("vision-a", "digits"))
    assert authorizer.permits(caller, Action.INFER, ["digits"]) == ()
    assert authorizer.permits(_caller("https://other.example/"), Action.INSPECT, ["digits"]) == ()


def test_what_is_known_of_a_caller_goes_with_the_caller() -> None:
    authorizer = Authorizer([_grant()])
    caller = _caller()
    assert authorizer.granted(caller, Action.INFER) is authorizer.granted(caller, Action.INFER)
    assert len(authorizer._rights) == 1
    del caller
    gc.collect()
    assert len(authorizer._rights) == 0


def test_two_callers_of_the_same_name_are_not_confused() -> None:
    authorizer = Authorizer([_grant({"scope": "a"})])
    may, may_not = _caller(scope="a"), _caller(scope="b")
    assert "digits" in authorizer.granted(may, Action.INFER)
    assert "digits" not in authorizer.granted(may_not, Action.INFER)


@pytest.mark.parametrize(
    ("order", "model", "first"),
    [
        ([0, 1, 2], "vision-a", "prefix"),
        ([1, 0, 2], "vision-a", "exact"),
        ([0, 1, 2], "vision-b", "prefix"),
        ([2, 1, 0], "vision-b", "all"),
        ([2, 1, 0], "digits", "all"),
    ],
)
def test_a_permit_names_the_first_grant_that_gives_it(order: list[int], model: str, first: str) -> None:
    patterns = [("vision-*", "prefix"), ("vision-a", "exact"), ("*", "all")]
    grants = [replace(_grant({}, patterns[place][0]), name=patterns[place][1]) for place in order]
    assert Authorizer(grants).authorize(_caller(), _call(model)).grant == first
    (permit,) = Authorizer(grants).permits(_caller(), Action.INFER, [model])
    assert permit.grant == first


@pytest.mark.parametrize("claims", [{"sub": "me", "team": "a"}, {}])
def test_grants_by_claims_and_without_stand_in_the_order_of_the_configuration(claims: dict[str, str]) -> None:
    one, other = replace(_grant({}), name="one"), replace(_grant({"sub": "me"}), name="other")
    caller = _caller(**{"sub": "me"} | claims)
    assert Authorizer([one, other]).authorize(caller, _call("digits")).grant == "one"
    assert Authorizer([other, one]).authorize(caller, _call("digits")).grant == "other"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"scope": "infer:digits"}, "scope=infer:digits"),
        ({"sub": "me", "team": "r\u00f6d und gr\u00fcn"}, "sub=me,team=r_d_und_gr_n"),
        ({}, "everyone"),
    ],
)
def test_a_grant_without_a_name_is_named_by_its_claims(claims: dict[str, str], name: str) -> None:
    assert named(claims) == name


def test_long_claims_make_no_long_name_and_no_two_the_same() -> None:
    one, other = named({"sub": "x" * 100}), named({"sub": "x" * 101})
    assert len(one) == len(other) == 64 and one != other
