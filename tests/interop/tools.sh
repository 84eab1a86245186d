#!/usr/bin/env bash
# Builds the programs that the interop tests run against into DIR; what is already there is left alone.
set -euo pipefail
out=$(mkdir -p "${1:?usage: tools.sh DIR}" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
install() { [ -x "$out/$(basename "${1%@*}")" ] || (cd / && GOBIN=$out go install "$1"); }
# The jars of a program that Maven has.
jars() {
  [ -d "$out/$1" ] || ! command -v mvn >/dev/null ||
    { mvn -q -B -f "$here/$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out/$1.new" && mv "$out/$1.new" "$out/$1"; }
}
build() { [ -x "$out/$2" ] || go build -C "$here/$1" -o "$out/$2" "$3"; }
install github.com/bojand/ghz/cmd/ghz@v0.121.0
install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
install helm.sh/helm/v4/cmd/helm@v4.3.1
install github.com/prometheus/alertmanager/cmd/alertmanager@v0.28.1  # Debian's wants a file of its package in /usr/share
install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
build istio-oracle istio-oracle .
build istio-oracle istioctl istio.io/istio/istioctl/cmd/istioctl
build kube-apiserver etcd go.etcd.io/etcd/server/v3
build kube-apiserver kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build otelcol otelcol .
jars kafka
jars opensearch
build jaeger jaeger-all-in-one github.com/jaegertracing/jaeger/cmd/all-in-one
if [ ! -e "$out/silero_vad.onnx" ]; then  # a model that keeps state; its package asks for torch, which the file does not need
  scratch=$(mktemp -d)
  python3 -m pip download --quiet --no-deps --dest "$scratch" silero-vad==6.2.3
  python3 -m zipfile -e "$scratch"/silero_vad-*.whl "$scratch"
  mv "$scratch/silero_vad/data/silero_vad.onnx" "$out/"
  rm -r "$scratch"
fi
if [ ! -e "$out/prometheus-operator-crd" ]; then  # what the operator takes, as its own schemas say
  module=$(cd / && go mod download -json github.com/prometheus-operator/prometheus-operator@v0.92.1 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  cp -r --no-preserve=mode "$module/example/prometheus-operator-crd" "$out/"
fi
if [ ! -x "$out/promtool" ] && command -v apt-get >/dev/null; then  # Debian's, unpacked: installed, they would run as services
  scratch=$(mktemp -d)
  fetch() { (cd "$scratch" && apt-get download -qq prometheus prometheus-alertmanager); }
  if fetch 2>/dev/null || (apt-get update -qq && fetch); then
    for package in "$scratch"/*.deb; do dpkg -x "$package" "$scratch"; done
    cp "$scratch"/usr/bin/{amtool,prometheus,promtool} "$out/"
  else
    echo "no prometheus to be had: the tests with it are skipped" >&2
  fi
  rm -r "$scratch"
fi
