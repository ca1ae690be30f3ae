// Command grpc_go LISTEN ENDPOINT... is gRPC's own balancing as a contender of the benchmark: a server that hands every
// unary call, as bytes, to a client channel with the policy round_robin and one retry of UNAVAILABLE.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// Retries are off for a method without this; gRPC's limits of it are 5 attempts and the throttle that is left out here.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]
}`

// raw is a message that stays what it was on the wire.
type raw struct{ bytes []byte }

type codec struct{}

func (codec) Marshal(message any) ([]byte, error) { return message.(*raw).bytes, nil }

func (codec) Unmarshal(data []byte, message any) error {
	message.(*raw).bytes = append([]byte(nil), data...)
	return nil
}

func (codec) Name() string { return "proto" }

func forward(client *grpc.ClientConn) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var request, answer raw
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		var headers, trailers metadata.MD
		err := client.Invoke(outgoing(stream.Context()), method, &request, &answer,
			grpc.ForceCodec(codec{}), grpc.Header(&headers), grpc.Trailer(&trailers))
		if name := headers.Get("endpoint-name"); len(name) > 0 {
			_ = stream.SetHeader(metadata.Pairs("endpoint-name", name[0]))
		}
		if err != nil {
			return err
		}
		return stream.SendMsg(&answer)
	}
}

// outgoing is the caller's context, deadline and cancel included, with its metadata for the endpoint.
func outgoing(incoming context.Context) context.Context {
	sent, _ := metadata.FromIncomingContext(incoming)
	passed := metadata.MD{}
	for _, name := range []string{"bench-class", "bench-cost", "bench-code"} {
		if values := sent.Get(name); len(values) > 0 {
			passed.Set(name, values...)
		}
	}
	return metadata.NewOutgoingContext(incoming, passed)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(grpc.Version)
		return
	}
	if len(os.Args) < 3 {
		log.Fatal("usage: grpc_go LISTEN ENDPOINT... | grpc_go --version")
	}
	endpoints := manual.NewBuilderWithScheme("fleet")
	var state resolver.State
	for _, address := range os.Args[2:] {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	endpoints.InitialState(state)
	client, err := grpc.NewClient("fleet:///endpoints", grpc.WithResolvers(endpoints), grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.UnknownServiceHandler(forward(client)))
	log.Fatal(server.Serve(listener))
}
