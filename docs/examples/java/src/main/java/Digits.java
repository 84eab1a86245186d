import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import inference.GRPCInferenceServiceGrpc;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferRequest.InferInputTensor;
import inference.GrpcService.ModelInferRequest.InferRequestedOutputTensor;
import io.grpc.*;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import javax.imageio.ImageIO;

/** Reads the digit in a picture, by stubs that protoc makes from the gateway's protos. */
public final class Digits {
  private static final Map<Status.Code, String> ADVICE = Map.of(
      Status.Code.UNAUTHENTICATED, "get a new token",
      Status.Code.PERMISSION_DENIED, "ask for a grant, or check the model's name",
      Status.Code.NOT_FOUND, "check the model's name",
      Status.Code.INVALID_ARGUMENT, "send what the model's metadata asks for",
      Status.Code.RESOURCE_EXHAUSTED, "send less, or come back later",
      Status.Code.UNAVAILABLE, "come back later",
      Status.Code.DEADLINE_EXCEEDED, "allow it more time",
      Status.Code.INTERNAL, "report the id of the request");

  public static void main(String[] args) throws Exception {
    var tls = TlsChannelCredentials.newBuilder().trustManager(new File(System.getenv("HEADRACE_CA"))).build();
    var token = new Metadata();
    token.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + System.getenv("HEADRACE_TOKEN"));
    var stub = GRPCInferenceServiceGrpc.newBlockingStub(Grpc.newChannelBuilder(args[0], tls).build())
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token))
        .withDeadlineAfter(10, TimeUnit.SECONDS); // from here on, for all tries together
    var request = ModelInferRequest.newBuilder()
        .setModelName(args[1])
        .addInputs(InferInputTensor.newBuilder().setName("image").setDatatype("FP32").addShape(1).addShape(64))
        .addOutputs(InferRequestedOutputTensor.newBuilder().setName("label"))
        .addRawInputContents(pixels(new File(args[2])))
        .build();
    for (int attempt = 1; ; attempt++) {
      try {
        var label = stub.modelInfer(request).getRawOutputContents(0).asReadOnlyByteBuffer();
        System.out.println(label.order(ByteOrder.LITTLE_ENDIAN).getLong());
        return;
      } catch (StatusRuntimeException refusal) {
        var code = refusal.getStatus().getCode();
        var info = ErrorInfo.getDefaultInstance();
        var retry = RetryInfo.getDefaultInstance();
        for (var detail : StatusProto.fromThrowable(refusal).getDetailsList()) {
          if (detail.is(ErrorInfo.class)) info = detail.unpack(ErrorInfo.class);
          if (detail.is(RetryInfo.class)) retry = detail.unpack(RetryInfo.class);
        }
        System.err.printf("%s %s: %s; %s (request_id=%s)%n", code, info.getReason(), refusal.getStatus().getDescription(),
            ADVICE.getOrDefault(code, "not foreseen"), info.getMetadataOrDefault("request_id", ""));
        if (!retry.hasRetryDelay() || attempt == 3) System.exit(64 + code.value()); // as grpcurl does
        var delay = retry.getRetryDelay();
        Thread.sleep((delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000) << (attempt - 1));
      }
    }
  }

  /** The picture as 8 x 8 greys from 0 to 1: FP32, row by row, little endian. */
  private static ByteString pixels(File picture) throws IOException {
    var raster = ImageIO.read(picture).getRaster();
    int width = raster.getWidth() / 8, height = raster.getHeight() / 8;
    var greys = ByteBuffer.allocate(64 * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (int place = 0; place < 64; place++) {
      int[] block = raster.getSamples(place % 8 * width, place / 8 * height, width, height, 0, (int[]) null);
      greys.putFloat((float) Arrays.stream(block).average().orElseThrow() / 255);
    }
    return ByteString.copyFrom(greys.flip());
  }
}
