package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// oddService answers as its request's metadata says.
type oddService struct{}

var oddDesc = grpc.ServiceDesc{
	ServiceName: "test.Odd",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		if err := decode(new(pb.Empty)); err != nil {
			return nil, err
		}
		return around(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/test.Odd/Unary"}, func(ctx context.Context, _ any) (any, error) {
			return odd(ctx)
		})
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Client", ClientStreams: true, Handler: oddStream},
		{StreamName: "Server", ServerStreams: true, Handler: oddStream},
	},
}

func oddStream(_ any, stream grpc.ServerStream) error {
	for {
		if err := stream.RecvMsg(new(pb.Empty)); err != nil {
			return err
		}
		reply, err := odd(stream.Context())
		if err != nil {
			return err
		}
		if err := stream.SendMsg(reply); err != nil {
			return err
		}
	}
}

func odd(ctx context.Context) (any, error) {
	method, _ := grpc.Method(ctx)
	switch metadata.ValueFromIncomingContext(ctx, "odd")[0] {
	case "header":
		return new(pb.Empty), errors.Join(grpc.SetHeader(ctx, metadata.Pairs("a", "1", "a", "2")), grpc.SetHeader(ctx, metadata.Pairs("b-bin", "\x00\xff")))
	case "send header":
		return new(pb.Empty), errors.Join(grpc.SetHeader(ctx, metadata.Pairs("a", "1")), grpc.SendHeader(ctx, metadata.Pairs("b", "2")))
	case "send header twice":
		grpc.SendHeader(ctx, nil)
		return nil, grpc.SendHeader(ctx, nil)
	case "set header late":
		grpc.SendHeader(ctx, nil)
		return nil, grpc.SetHeader(ctx, metadata.Pairs("a", "1"))
	case "trailer":
		return new(pb.Empty), grpc.SetTrailer(ctx, metadata.Pairs("a", "1", "c-bin", "\x00"))
	case "trailer and error":
		grpc.SetHeader(ctx, metadata.Pairs("h", "1"))
		grpc.SetTrailer(ctx, metadata.Pairs("a", "1", "grpc-status", "7", "content-type", "x"))
		return nil, status.Error(codes.Aborted, "as it is: % \u20ac\n\xff")
	case "reserved header":
		return new(pb.Empty), grpc.SetHeader(ctx, metadata.Pairs("grpc-status", "7", ":path", "x", "user-agent", "me"))
	case "details":
		detail, _ := anypb.New(&pb.Empty{})
		return nil, status.FromProto(&spb.Status{Code: 9, Message: "m", Details: []*anypb.Any{detail}}).Err()
	case "plain error":
		return nil, errors.New("plain")
	case "context error":
		return nil, context.DeadlineExceeded
	case "ok error":
		return nil, status.FromProto(&spb.Status{Code: 0, Message: "fine"}).Err()
	case "unmarshalable":
		return &pb.SimpleResponse{Username: "\xff"}, nil
	case "large reply":
		return &pb.SimpleResponse{Username: strings.Repeat("x", 2000)}, nil
	case "method":
		return nil, status.Error(codes.Unknown, method)
	case "metadata":
		md, _ := metadata.FromIncomingContext(ctx)
		delete(md, ":authority")
		return nil, status.Error(codes.Unknown, described(md))
	case "authority":
		md, _ := metadata.FromIncomingContext(ctx)
		return nil, status.Error(codes.Unknown, fmt.Sprintf("%q %q", md[":authority"], md["host"]))
	}
	return new(pb.Empty), nil
}

// described writes metadata in a fixed order.
func described(md metadata.MD) string {
	var lines []string
	for name, values := range md {
		lines = append(lines, fmt.Sprintf("%s=%q", name, values))
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	m := prefixed(b.String())
	return "\x01" + m[1:]
}

// Both servers answer alike, down to the texts. What differs on purpose stands in the case.
func TestAsGRPCGo(t *testing.T) {
	send := func(end bool, messages string, fields ...string) func(*rawClient) {
		return func(r *rawClient) {
			r.headers(1, false, fields...)
			r.data(1, end, messages)
		}
	}
	oddCall := func(what string, more ...string) func(*rawClient) {
		return send(true, prefixed(""), callFields("/test.Odd/Unary", append(more, "odd", what)...)...)
	}
	field := func(name, value string) []string {
		f := callFields("/test.Odd/Unary", "odd", "ok")
		for i := 0; i < len(f); i += 2 {
			if f[i] == name {
				f[i+1] = value
				return f
			}
		}
		return append(f, name, value)
	}
	empty := prefixed("")
	// authority makes a call with these fields in the place of :authority. Clients of etcd of 2021, with the gRPC of later years,
	// leave it empty.
	authority := func(fields ...string) func(*rawClient) {
		all := callFields("/test.Odd/Unary", "odd", "authority")
		i := slices.Index(all, ":authority")
		return send(true, empty, slices.Replace(all, i, i+2, fields...)...)
	}
	for name, does := range map[string]func(*rawClient){
		"ok":                    oddCall("ok"),
		"header":                oddCall("header"),
		"send header":           oddCall("send header"),
		"send header twice":     oddCall("send header twice"),
		"set header late":       oddCall("set header late"),
		"trailer":               oddCall("trailer"),
		"trailer and error":     oddCall("trailer and error"),
		"reserved header":       oddCall("reserved header"),
		"details":               oddCall("details"),
		"plain error":           oddCall("plain error"),
		"context error":         oddCall("context error"),
		"ok error":              oddCall("ok error"),
		"unmarshalable":         oddCall("unmarshalable"),
		"large reply":           oddCall("large reply"),
		"method":                oddCall("method"),
		"metadata":              oddCall("metadata", "b", "2", "a", "1", "a", "2", "x-bin", "AAE", "y-bin", "AAE=", "user-agent", "me", "grpc-timeout", "1H", "grpc-accept-encoding", "gzip"),
		"bad binary metadata":   oddCall("ok", "x-bin", "$$"),
		"unknown method":        send(true, empty, callFields("/test.Odd/Other")...),
		"unknown service":       send(true, empty, callFields("/test.Other/Other")...),
		"deep service":          send(true, empty, callFields("/a/b/c")...),
		"malformed path":        send(true, empty, callFields("/test.Odd")...),
		"path without a slash":  send(true, empty, callFields("test.Odd/Unary")...),
		"path of a slash":       send(true, empty, callFields("/")...),
		"method not POST":       send(true, empty, field(":method", "GET")...),
		"content type":          send(true, empty, field("content-type", "text/plain")...),
		"content type like":     send(true, empty, field("content-type", "application/grpcx")...),
		"content subtype":       send(true, empty, field("content-type", "application/grpc+proto")...),
		"content parameter":     send(true, empty, field("content-type", "application/grpc;x=y")...),
		"bad timeout":           send(true, empty, field("grpc-timeout", "1x")...),
		"short timeout":         send(true, empty, field("grpc-timeout", "1")...),
		"long timeout":          send(true, empty, field("grpc-timeout", "123456789S")...),
		"huge timeout":          send(true, empty, field("grpc-timeout", "99999999H")...),
		"no time":               send(true, empty, field("grpc-timeout", "0n")...),
		"two hosts":             send(true, empty, append(field("host", "a"), "host", "b")...),
		"no authority":          authority(),
		"a host":                authority("host", "a"),
		"an empty host":         authority("host", ""),
		"authority":             authority(":authority", "a"),
		"authority, host":       authority(":authority", "a", "host", "b"),
		"empty authority":       authority(":authority", ""),
		"empty authority, host": authority(":authority", "", "host", "a"),
		"unknown encoding":      send(true, empty, field("grpc-encoding", "what")...),
		"identity":              send(true, empty, field("grpc-encoding", "identity")...),
		"gzip":                  send(true, gzipped(""), field("grpc-encoding", "gzip")...),
		"gzip, uncompressed":    send(true, empty, field("grpc-encoding", "gzip")...),
		"gzip without a header": send(true, gzipped(""), callFields("/test.Odd/Unary", "odd", "ok")...),
		"gzip, identity":        send(true, gzipped(""), field("grpc-encoding", "identity")...),
		"no gzip":               send(true, "\x01"+prefixed("zzzz")[1:], field("grpc-encoding", "gzip")...),
		"gzip too large":        send(true, gzipped(strings.Repeat("\x00", 1100)), field("grpc-encoding", "gzip")...),
		"flag":                  send(true, "\x02"+empty[1:], callFields("/test.Odd/Unary", "odd", "ok")...),
		"no message":            send(true, "", callFields("/test.Odd/Unary", "odd", "ok")...),
		"two messages":          send(true, empty+empty, callFields("/test.Odd/Unary", "odd", "ok")...),
		"half a prefix":         send(true, "\x00\x00", callFields("/test.Odd/Unary", "odd", "ok")...),
		"half a message":        send(true, "\x00\x00\x00\x00\x05ab", callFields("/test.Odd/Unary", "odd", "ok")...),
		"too large":             send(true, prefixed(strings.Repeat("x", 1001)), callFields("/test.Odd/Unary", "odd", "ok")...),
		"says too large":        send(false, "\x00\xff\xff\xff\xff", callFields("/test.Odd/Unary", "odd", "ok")...),
		"not a message":         send(true, prefixed("\xff\xff"), callFields("/test.Odd/Unary", "odd", "ok")...),
		"server stream":         send(true, empty, callFields("/test.Odd/Server", "odd", "ok")...),
		"server stream, none":   send(true, "", callFields("/test.Odd/Server", "odd", "ok")...),
		"server stream, two":    send(true, empty+empty, callFields("/test.Odd/Server", "odd", "ok")...),
		"client stream, none":   send(true, "", callFields("/test.Odd/Client", "odd", "ok")...),
		"client stream, three":  send(true, empty+empty+empty, callFields("/test.Odd/Client", "odd", "ok")...),
		"client stream, large":  send(true, empty+prefixed(strings.Repeat("x", 1001)), callFields("/test.Odd/Client", "odd", "ok")...),
		"client stream, cut":    send(true, empty+"\x00", callFields("/test.Odd/Client", "odd", "ok")...),
		"client stream, error":  send(false, empty, callFields("/test.Odd/Client", "odd", "plain error")...),
		"client stream, zipped": send(true, gzipped(""), append(callFields("/test.Odd/Client", "odd", "ok"), "grpc-encoding", "gzip")...),
		"end without data":      func(r *rawClient) { r.headers(1, true, callFields("/test.Odd/Unary", "odd", "ok")...) },
	} {
		t.Run(name, func(t *testing.T) {
			around := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return next(ctx, req)
			}
			ours := newKit(t, Options{RecvBytesMax: 1000, SendBytesMax: 1500, Unary: []grpc.UnaryServerInterceptor{around, around}})
			ours.server.RegisterService(&oddDesc, oddService{})
			ours.serve()
			theirs := newKit(t, Options{})
			g := grpc.NewServer(grpc.MaxRecvMsgSize(1000), grpc.MaxSendMsgSize(1500), grpc.ChainUnaryInterceptor(around, around))
			g.RegisterService(&oddDesc, oddService{})
			go g.Serve(theirs.listener)
			defer g.Stop()
			got, want := outcome(ours, does), outcome(theirs, does)
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// outcome describes how stream 1 went.
func outcome(k *kit, does func(*rawClient)) string {
	r := k.rawClient().hello()
	does(r)
	a := r.await(1)
	delete(a.header, "grpc-accept-encoding")
	delete(a.trailer, "grpc-accept-encoding") // grpc-go does not tell
	for _, m := range []map[string]string{a.header, a.trailer} {
		if m["grpc-message"] == "" {
			delete(m, "grpc-message") // grpc-go sends empty ones as well
		}
	}
	return fmt.Sprintf("%v\nheader %v\ntrailer %v\nbody %q", a, a.header, a.trailer, a.body)
}
