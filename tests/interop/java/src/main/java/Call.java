import com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineServiceGrpc;
import com.google.protobuf.ByteString;
import com.google.protobuf.Value;
import inference.GRPCInferenceServiceGrpc;
import inference.ModelInferRequest;
import inference.ModelInferResponse;
import inference.ModelStreamInferResponse;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import io.seldon.protos.DefaultData;
import io.seldon.protos.Meta;
import io.seldon.protos.SeldonGrpc;
import io.seldon.protos.SeldonMessage;
import io.seldon.protos.Tensor;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.tensorflow.framework.DataType;
import org.tensorflow.framework.TensorProto;
import org.tensorflow.framework.TensorShapeProto;
import tensorflow.serving.GetModelMetadataRequest;
import tensorflow.serving.GetModelMetadataResponse;
import tensorflow.serving.ModelSpec;
import tensorflow.serving.PredictRequest;
import tensorflow.serving.PredictResponse;
import tensorflow.serving.PredictionServiceGrpc;
import tensorflow.serving.SignatureDefMap;

/**
 * Calls every protocol at an address through the stubs that protoc makes of protos/, and prints what it found, one
 * "name=value" a line. tests/interop/test_java_and_go.py says what is expected.
 */
public final class Call {
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> ACCESS_ERROR =
      Metadata.Key.of("access-error", Metadata.ASCII_STRING_MARSHALLER);

  private Call() {}

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = NettyChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    try {
      tensorflow(channel);
      pytorch(channel);
      openInference(channel);
      failure(channel);
      HealthCheckRequest check = HealthCheckRequest.newBuilder().setService("m").build();
      System.out.println("health=" + HealthGrpc.newBlockingStub(channel).check(check).getStatus());
    } finally {
      channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
    }
  }

  private static void tensorflow(ManagedChannel channel) throws Exception {
    PredictRequest request = predictRequest("m");
    PredictionServiceGrpc.PredictionServiceBlockingStub stub = PredictionServiceGrpc.newBlockingStub(channel);
    System.out.println("tfs=" + stub.predict(request).getOutputsOrThrow("y").getFloatValList());
    PredictResponse answer = service(channel).predict(request);
    System.out.println(
        "dl_inference tfs=" + answer.getOutputsOrThrow("y").getFloatValList() + " " + answer.getModelSpec().getName());
    GetModelMetadataResponse metadata =
        stub.getModelMetadata(
            GetModelMetadataRequest.newBuilder()
                .setModelSpec(request.getModelSpec())
                .addMetadataField("signature_def")
                .build());
    SignatureDefMap signatures = metadata.getMetadataOrThrow("signature_def").unpack(SignatureDefMap.class);
    System.out.println("signature=" + signatures.getSignatureDefOrThrow("serving_default").getMethodName());
  }

  private static PredictRequest predictRequest(String name) {
    TensorShapeProto shape =
        TensorShapeProto.newBuilder().addDim(TensorShapeProto.Dim.newBuilder().setSize(2)).build();
    TensorProto tensor =
        TensorProto.newBuilder()
            .setDtype(DataType.DT_FLOAT)
            .setTensorShape(shape)
            .addFloatVal(1.5f)
            .addFloatVal(2.5f)
            .build();
    return PredictRequest.newBuilder()
        .setModelSpec(ModelSpec.newBuilder().setName(name))
        .putInputs("x", tensor)
        .build();
  }

  private static void pytorch(ManagedChannel channel) {
    Tensor tensor = Tensor.newBuilder().addShape(2).addValues(1.5).addValues(2.5).build();
    SeldonMessage request =
        SeldonMessage.newBuilder()
            .setMeta(Meta.newBuilder().putTags("model", Value.newBuilder().setStringValue("m").build()))
            .setData(DefaultData.newBuilder().setTensor(tensor))
            .build();
    SeldonMessage answer = SeldonGrpc.newBlockingStub(channel).predict(request);
    System.out.println("seldon=" + answer.getData().getTensor().getValuesList());
    Value task = Value.newBuilder().setNumberValue(39).build();
    request = request.toBuilder().setMeta(Meta.newBuilder().putTags("taskId", task)).build();
    answer = service(channel).pytorchPredict(request);
    System.out.println("dl_inference seldon=" + answer.getData().getTensor().getValuesList());
  }

  private static void openInference(ManagedChannel channel) throws Exception {
    ModelInferRequest request =
        ModelInferRequest.newBuilder()
            .setModelName("m")
            .setId("7")
            .addInputs(
                ModelInferRequest.InferInputTensor.newBuilder().setName("x").setDatatype("UINT8").addShape(2))
            .addRawInputContents(ByteString.copyFrom(new byte[] {1, 2}))
            .build();
    ModelInferResponse answer = GRPCInferenceServiceGrpc.newBlockingStub(channel).modelInfer(request);
    System.out.println("oip=" + answer.getId() + " " + bytes(answer));
    answer = service(channel).tisPredict(request);
    System.out.println("dl_inference oip=" + answer.getId() + " " + bytes(answer));
    CompletableFuture<Integer> counted = new CompletableFuture<>();
    StreamObserver<ModelInferRequest> requests =
        GRPCInferenceServiceGrpc.newStub(channel).modelStreamInfer(new Counter(counted));
    for (int number = 0; number < 3; number++) {
      requests.onNext(request);
    }
    requests.onCompleted();
    System.out.println("oip stream=" + counted.get(60, TimeUnit.SECONDS));
  }

  private static String bytes(ModelInferResponse answer) {
    return java.util.Arrays.toString(answer.getRawOutputContents(0).toByteArray());
  }

  /** Calls a model that nobody serves; metadata goes there and trailers come back. */
  private static void failure(ManagedChannel channel) {
    Metadata headers = new Metadata();
    headers.put(REQUEST_ID, "from-java");
    PredictionServiceGrpc.PredictionServiceBlockingStub stub = PredictionServiceGrpc.newBlockingStub(channel);
    try {
      stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers)).predict(predictRequest("stranger"));
    } catch (StatusRuntimeException error) {
      Metadata trailers = error.getTrailers();
      System.out.println(
          "error=" + error.getStatus().getCode() + " " + trailers.get(ACCESS_ERROR) + " " + trailers.get(REQUEST_ID));
    }
    try {
      stub.predict(predictRequest("broken"));
    } catch (StatusRuntimeException error) {
      System.out.println(
          "endpoint's error=" + error.getStatus().getCode() + " " + error.getStatus().getDescription());
    }
  }

  private static WpaiDLPredictOnlineServiceGrpc.WpaiDLPredictOnlineServiceBlockingStub service(
      ManagedChannel channel) {
    return WpaiDLPredictOnlineServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
  }

  /** Counts the answers of a stream that carry the request's id. */
  private static final class Counter implements StreamObserver<ModelStreamInferResponse> {
    private final CompletableFuture<Integer> result;
    private int count;

    Counter(CompletableFuture<Integer> result) {
      this.result = result;
    }

    @Override
    public void onNext(ModelStreamInferResponse answer) {
      if (answer.getInferResponse().getId().equals("7")) {
        count++;
      }
    }

    @Override
    public void onError(Throwable error) {
      result.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      result.complete(count);
    }
  }
}
