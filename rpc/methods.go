package rpc

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// method is one method of a registered service: either unary or stream is set.
type method struct {
	srv    any
	unary  *grpc.MethodDesc
	stream *grpc.StreamDesc
	info   *grpc.StreamServerInfo // of a stream
	// inline and deferred methods run on the goroutine that reads.
	inline, deferred bool
}

// service is what was registered under one name.
type service struct {
	methods  []grpc.MethodInfo
	metadata any
}

// methods are all methods by their path.
type methods struct {
	services map[string]*service
	byPath   map[string]*method
}

func newMethods() methods { return methods{map[string]*service{}, map[string]*method{}} }

func (m *methods) add(d *grpc.ServiceDesc, srv any, o *Options) {
	if m.services[d.ServiceName] != nil {
		panic(fmt.Sprintf("rpc: service %s is registered twice", d.ServiceName))
	}
	s := &service{metadata: d.Metadata}
	m.services[d.ServiceName] = s
	for i := range d.Methods {
		u := &d.Methods[i]
		path := "/" + d.ServiceName + "/" + u.MethodName
		m.byPath[path] = &method{srv: srv, unary: u, inline: slices.Contains(o.Inline, path), deferred: slices.Contains(o.Deferred, path)}
		s.methods = append(s.methods, grpc.MethodInfo{Name: u.MethodName})
	}
	for i := range d.Streams {
		t := &d.Streams[i]
		path := "/" + d.ServiceName + "/" + t.StreamName
		info := &grpc.StreamServerInfo{FullMethod: path, IsClientStream: t.ClientStreams, IsServerStream: t.ServerStreams}
		m.byPath[path] = &method{srv: srv, stream: t, info: info}
		s.methods = append(s.methods, grpc.MethodInfo{Name: t.StreamName, IsClientStream: t.ClientStreams, IsServerStream: t.ServerStreams})
	}
}

// find returns nil for a method that does not exist.
func (m *methods) find(path string) *method { return m.byPath[path] }

// unknown says what there is none of. The texts are grpc-go's.
func (m *methods) unknown(path string) *status.Status {
	service, name, err := splitPath(path)
	switch {
	case err != nil:
		return status.Newf(codes.Unimplemented, "malformed method name: %q", path)
	case m.services[service] == nil:
		return status.Newf(codes.Unimplemented, "unknown service %v", service)
	}
	return status.Newf(codes.Unimplemented, "unknown method %v for service %v", name, service)
}

// chainUnary makes one interceptor of many, the first outermost. Of none it makes nil.
func chainUnary(list []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	first, rest := list[0], chainUnary(list[1:])
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return first(ctx, req, info, func(ctx context.Context, req any) (any, error) { return rest(ctx, req, info, handler) })
	}
}

// chainStream is chainUnary for streams.
func chainStream(list []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	first, rest := list[0], chainStream(list[1:])
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return first(srv, stream, info, func(srv any, stream grpc.ServerStream) error { return rest(srv, stream, info, handler) })
	}
}
