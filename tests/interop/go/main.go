// Calls every protocol at an address through the stubs that protoc makes of protos/, and prints what it found,
// one "name=value" a line. tests/interop/test_java_and_go.py says what is expected.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	access "dlinference/protos/access"
	"dlinference/protos/inference"
	"dlinference/protos/seldon"
	tf "dlinference/protos/tensorflow"
	tfs "dlinference/protos/tensorflow_serving"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tensorflow(ctx, connection)
	pytorch(ctx, connection)
	openInference(ctx, connection)
	failure(ctx, connection)
	checked, err := health.NewHealthClient(connection).Check(ctx, &health.HealthCheckRequest{Service: "m"})
	must(err)
	fmt.Printf("health=%s\n", checked.Status)
}

func tensorflow(ctx context.Context, connection *grpc.ClientConn) {
	request := predictRequest("m")
	answer, err := tfs.NewPredictionServiceClient(connection).Predict(ctx, request)
	must(err)
	fmt.Printf("tfs=%v\n", answer.Outputs["y"].FloatVal)
	answer, err = access.NewWpaiDLPredictOnlineServiceClient(connection).Predict(ctx, request)
	must(err)
	fmt.Printf("dl_inference tfs=%v %s\n", answer.Outputs["y"].FloatVal, answer.ModelSpec.Name)
	metadata, err := tfs.NewPredictionServiceClient(connection).GetModelMetadata(ctx, &tfs.GetModelMetadataRequest{
		ModelSpec: request.ModelSpec, MetadataField: []string{"signature_def"}})
	must(err)
	signatures := &tfs.SignatureDefMap{}
	must(metadata.Metadata["signature_def"].UnmarshalTo(signatures))
	fmt.Printf("signature=%s\n", signatures.SignatureDef["serving_default"].MethodName)
}

func predictRequest(name string) *tfs.PredictRequest {
	size := []*tf.TensorShapeProto_Dim{{Size: 2}}
	tensor := &tf.TensorProto{Dtype: tf.DataType_DT_FLOAT, TensorShape: &tf.TensorShapeProto{Dim: size},
		FloatVal: []float32{1.5, 2.5}}
	return &tfs.PredictRequest{ModelSpec: &tfs.ModelSpec{Name: name}, Inputs: map[string]*tf.TensorProto{"x": tensor}}
}

func pytorch(ctx context.Context, connection *grpc.ClientConn) {
	tags := map[string]*structpb.Value{"model": structpb.NewStringValue("m")}
	request := &seldon.SeldonMessage{Meta: &seldon.Meta{Tags: tags},
		DataOneof: &seldon.SeldonMessage_Data{Data: &seldon.DefaultData{
			DataOneof: &seldon.DefaultData_Tensor{Tensor: &seldon.Tensor{Shape: []int32{2}, Values: []float64{1.5, 2.5}}}}}}
	answer, err := seldon.NewSeldonClient(connection).Predict(ctx, request)
	must(err)
	fmt.Printf("seldon=%v\n", answer.GetData().GetTensor().Values)
	request.Meta.Tags = map[string]*structpb.Value{"taskId": structpb.NewNumberValue(39)}
	answer, err = access.NewWpaiDLPredictOnlineServiceClient(connection).PytorchPredict(ctx, request)
	must(err)
	fmt.Printf("dl_inference seldon=%v\n", answer.GetData().GetTensor().Values)
}

func openInference(ctx context.Context, connection *grpc.ClientConn) {
	request := &inference.ModelInferRequest{ModelName: "m", Id: "7",
		Inputs:           []*inference.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "UINT8", Shape: []int64{2}}},
		RawInputContents: [][]byte{{1, 2}}}
	client := inference.NewGRPCInferenceServiceClient(connection)
	answer, err := client.ModelInfer(ctx, request)
	must(err)
	fmt.Printf("oip=%s %v\n", answer.Id, answer.RawOutputContents[0])
	answer, err = access.NewWpaiDLPredictOnlineServiceClient(connection).TisPredict(ctx, request)
	must(err)
	fmt.Printf("dl_inference oip=%s %v\n", answer.Id, answer.RawOutputContents[0])
	stream, err := client.ModelStreamInfer(ctx)
	must(err)
	for range 3 {
		must(stream.Send(request))
	}
	must(stream.CloseSend())
	count := 0
	for {
		streamed, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must(err)
		if streamed.InferResponse.Id == "7" {
			count++
		}
	}
	fmt.Printf("oip stream=%d\n", count)
}

// failure calls a model that nobody serves; metadata goes there and trailers come back.
func failure(ctx context.Context, connection *grpc.ClientConn) {
	var trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", "from-go")
	_, err := tfs.NewPredictionServiceClient(connection).Predict(ctx, predictRequest("stranger"), grpc.Trailer(&trailer))
	fmt.Printf("error=%s %s %s\n", status.Code(err), trailer.Get("access-error")[0], trailer.Get("x-request-id")[0])
	_, err = tfs.NewPredictionServiceClient(connection).Predict(ctx, predictRequest("broken"))
	fmt.Printf("endpoint's error=%s %s\n", status.Code(err), status.Convert(err).Message())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
