// Command digits reads the digit in a picture, by stubs that protoc makes from the gateway's protos.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"log"
	"os"
	"time"

	pb "example.com/digits/inference"
	"golang.org/x/image/draw"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var advice = map[codes.Code]string{
	codes.Unauthenticated: "get a new token", codes.PermissionDenied: "ask for a grant, or check the model's name",
	codes.NotFound: "check the model's name", codes.InvalidArgument: "send what the model's metadata asks for",
	codes.ResourceExhausted: "send less, or come back later", codes.Unavailable: "come back later",
	codes.DeadlineExceeded: "allow it more time", codes.Internal: "report the id of the request",
}

func main() {
	tls := grpc.WithTransportCredentials(must(credentials.NewClientTLSFromFile(os.Getenv("HEADRACE_CA"), "")))
	client := pb.NewGRPCInferenceServiceClient(must(grpc.NewClient(os.Args[1], tls)))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // for all tries together
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("HEADRACE_TOKEN"))
	request := &pb.ModelInferRequest{
		ModelName: os.Args[2], RawInputContents: [][]byte{pixels(os.Args[3])},
		Inputs:  []*pb.ModelInferRequest_InferInputTensor{{Name: "image", Datatype: "FP32", Shape: []int64{1, 64}}},
		Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "label"}},
	}
	answer, err := client.ModelInfer(ctx, request)
	for tries := 1; err != nil; tries++ {
		refusal, info, retry := status.Convert(err), &errdetails.ErrorInfo{}, (*errdetails.RetryInfo)(nil)
		for _, detail := range refusal.Details() {
			switch detail := detail.(type) {
			case *errdetails.ErrorInfo:
				info = detail
			case *errdetails.RetryInfo:
				retry = detail
			}
		}
		log.Printf("%s %s: %s; %s (request_id=%s)", refusal.Code(), info.Reason, refusal.Message(),
			advice[refusal.Code()], info.Metadata["request_id"])
		if retry == nil || tries == 3 {
			os.Exit(64 + int(refusal.Code())) // as grpcurl does
		}
		time.Sleep(retry.RetryDelay.AsDuration() << (tries - 1))
		answer, err = client.ModelInfer(ctx, request)
	}
	fmt.Println(binary.LittleEndian.Uint64(answer.RawOutputContents[0]))
}

func pixels(path string) (raw []byte) { // 8 x 8 greys from 0 to 1: FP32, row by row, little endian
	picture, small := must(png.Decode(must(os.Open(path)))), image.NewGray(image.Rect(0, 0, 8, 8))
	box := draw.Kernel{Support: 0.5, At: func(float64) float64 { return 1 }}
	box.Scale(small, small.Rect, picture, picture.Bounds(), draw.Src, nil)
	for _, grey := range small.Pix {
		raw = must(binary.Append(raw, binary.LittleEndian, float32(grey)/255))
	}
	return raw
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
