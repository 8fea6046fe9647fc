package proxy

import (
	"context"
	"errors"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// relay makes each call again towards the cluster, message by message, whatever its method. Watch streams are the exception.
type relay struct {
	to      grpc.ClientConnInterface
	options []grpc.CallOption
	// rewrites are the methods whose messages are changed on their way.
	rewrites map[string]rewrite
	// members answers MemberList with the proxies; nil: the cluster does.
	members func(ctx context.Context) ([]*pb.Member, error)
	// watches serves watch streams.
	watches *watchHub
}

// rewrite changes the messages of a method. Either function may be nil.
type rewrite struct{ request, reply func([]byte) ([]byte, error) }

const (
	methodMemberList = "/etcdserverpb.Cluster/MemberList"
	methodWatch      = "/etcdserverpb.Watch/Watch"
)

// openWatch opens a watch stream to a member.
func (r *relay) openWatch(ctx context.Context) (grpc.ClientStream, error) {
	return r.to.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, methodWatch, r.options...)
}

// handle is the handler of every method.
func (r *relay) handle(_ any, client grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(client)
	if !ok {
		return status.Error(codes.Internal, "proxy: a call without a method")
	}
	if method == methodMemberList && r.members != nil {
		return r.listMembers(client)
	}
	if method == methodWatch {
		return r.watches.serve(client, r.rewrites[method].request)
	}
	ctx, cancel := context.WithCancel(forwarded(client.Context()))
	defer cancel()
	member, err := r.to.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, r.options...)
	if err != nil {
		return err
	}
	change := r.rewrites[method]
	sent := make(chan error, 1)
	go func() { // ends with the call: of the client when this handler returns, or of the member by cancel
		sent <- pass(client, member, change.request, func() error { return member.CloseSend() })
	}()
	err = r.replies(client, member, change.reply)
	client.SetTrailer(member.Trailer())
	if err != nil {
		select {
		case failure := <-sent: // a request that could not be rewritten is why the call was given up
			if status.Code(failure) == codes.InvalidArgument {
				return failure
			}
		default:
		}
	}
	return err
}

// pass sends what one side says to the other, until it has said all.
func pass(from grpc.ServerStream, to grpc.ClientStream, change func([]byte) ([]byte, error), end func() error) error {
	for {
		var f frame
		if err := from.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return end()
			}
			return err
		}
		if change != nil {
			changed, err := change(f.bytes)
			if err != nil {
				return errors.Join(status.Error(codes.InvalidArgument, err.Error()), end())
			}
			f.bytes = changed
		}
		if err := to.SendMsg(&f); err != nil {
			return err
		}
	}
}

func (r *relay) replies(client grpc.ServerStream, member grpc.ClientStream, change func([]byte) ([]byte, error)) error {
	header, err := member.Header()
	if err != nil {
		return err
	}
	if err := client.SendHeader(header); err != nil {
		return err
	}
	for {
		var f frame
		if err := member.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if change != nil {
			if f.bytes, err = change(f.bytes); err != nil {
				return status.Error(codes.Internal, err.Error())
			}
		}
		if err := client.SendMsg(&f); err != nil {
			return err
		}
	}
}

// listMembers answers MemberList.
func (r *relay) listMembers(client grpc.ServerStream) error {
	var f frame
	if err := client.RecvMsg(&f); err != nil {
		return err
	}
	if err := proto.Unmarshal(f.bytes, new(pb.MemberListRequest)); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	members, err := r.members(client.Context())
	if err != nil {
		return err
	}
	return client.SendMsg(&pb.MemberListResponse{Header: &pb.ResponseHeader{}, Members: members})
}

// forwarded is the context of a call that is made again: with the client's metadata but for what belongs to a connection.
func forwarded(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	out := metadata.MD{}
	for key, values := range md {
		switch {
		case strings.HasPrefix(key, ":"), strings.HasPrefix(key, "grpc-"), key == "content-type", key == "user-agent", key == "te":
		default:
			out[key] = values
		}
	}
	return metadata.NewOutgoingContext(ctx, out)
}
