package handshake

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"go.etcd.io/etcd/api/v3/authpb"
)

// holders are those whose certificates name users, or nobody.
func holders() []client {
	var list []client
	for _, name := range []string{"root", "ann", "cert", "nobody", "", "server"} {
		list = append(list, client{"CN " + name, actors.ca.issue(subject{name: name, ips: []string{"127.0.0.1"}})})
	}
	return append(list, client{"CN root of another authority", actors.foreign.issue(subject{name: "root"})}, actors.nobody)
}

// makeUsers makes users and roles, and has them demanded. It returns tokens by the names of their users.
func (s *side) makeUsers(config *tls.Config) map[string]string {
	tokens := map[string]string{}
	s.call("users", "@client", config, "", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		auth := pb.NewAuthClient(conn)
		for _, user := range []string{"root", "ann", "cert", "gone", "server"} {
			if _, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: user, Password: user, Options: &authpb.UserAddOptions{NoPassword: user == "cert"}}); err != nil {
				return nil, err
			}
		}
		if _, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "a"}); err != nil {
			return nil, err
		}
		if _, err := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "a", Perm: &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("a")}}); err != nil {
			return nil, err
		}
		for user, role := range map[string]string{"root": "root", "ann": "a", "cert": "a"} {
			if _, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role}); err != nil {
				return nil, err
			}
		}
		if _, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{}); err != nil {
			return nil, err
		}
		for _, user := range []string{"root", "ann", "gone"} {
			answer, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: user})
			if err != nil {
				return nil, err
			}
			tokens[user] = answer.Token
		}
		return nil, nil
	})
	return tokens
}

// calls are made by everybody.
var calls = []struct {
	name string
	do   func(context.Context, *grpc.ClientConn) (any, error)
}{
	{"get a", read},
	{"put b", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("b")})
		return nil, err
	}},
	{"list users", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewAuthClient(conn).UserList(ctx, &pb.AuthUserListRequest{})
		return nil, err
	}},
	{"user ann", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewAuthClient(conn).UserGet(ctx, &pb.AuthUserGetRequest{Name: "ann"})
		return nil, err
	}},
	{"status", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		return nil, err
	}},
	{"alarms", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewMaintenanceClient(conn).Alarm(ctx, &pb.AlarmRequest{})
		return nil, err
	}},
	{"grant a lease", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 600})
		return nil, err
	}},
	{"members", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		_, err := pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{})
		return nil, err
	}},
	{"watch a", watching("a")},
	{"watch b", watching("b")},
	{"snapshot", func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		stream, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{})
		if err != nil {
			return nil, err
		}
		_, err = stream.Recv()
		return nil, err
	}},
}

// watching makes a watch of a key and tells what became of it.
func watching(key string) func(context.Context, *grpc.ClientConn) (any, error) {
	return func(ctx context.Context, conn *grpc.ClientConn) (any, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := pb.NewWatchClient(conn).Watch(ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}}}); err != nil {
			return nil, err
		}
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		return fmt.Sprintf("created %t, canceled %t %s", answer.Created, answer.Canceled, answer.CancelReason), nil
	}
}

// TestUsers has holders of certificates call, with tokens and without, through gRPC and the gateway.
func TestUsers(t *testing.T) {
	everybody := holders()
	look := func(s *side) {
		tokens := s.makeUsers(everybody[0].as())
		for _, who := range everybody {
			for _, call := range calls {
				s.call(who.name+": "+call.name, "@client", who.as(), "", call.do)
			}
			for _, user := range []string{"ann", "root", "gone", "wrong"} {
				token := tokens[user]
				if token == "" {
					token = "nosuch.1"
				}
				s.call(who.name+" with a token of "+user, "@client", who.as(), token, calls[1].do)
			}
			for _, h2 := range []bool{false, true} {
				for _, token := range []string{"", tokens["ann"], "nosuch.1"} {
					var header []string
					if token != "" {
						header = []string{"Authorization", token}
					}
					what := fmt.Sprintf("%s through the gateway, HTTP/2 %t, token %t %t", who.name, h2, token != "", token == tokens["ann"])
					s.request(what+": range", "POST", "https://@http/v3/kv/range", `{"key":"YQ=="}`, who.as(), h2, header...)
					s.request(what+": put", "POST", "https://@http/v3/kv/put", `{"key":"Yg=="}`, who.as(), h2, header...)
					s.request(what+": login", "POST", "https://@http/v3/auth/authenticate", `{"name":"ann","password":"ann"}`, who.as(), h2, header...)
				}
				s.get(fmt.Sprintf("%s: health, HTTP/2 %t", who.name, h2), "https://@http/health", who.as(), h2)
				s.get(fmt.Sprintf("%s: version, HTTP/2 %t", who.name, h2), "https://@http/version", who.as(), h2)
			}
		}
	}
	for name, args := range map[string][]string{
		"demanded":           with(slices.Concat(demanding, []string{"--bcrypt-cost=4", "--listen-client-http-urls=https://@http"})...),
		"trusted only":       with("--trusted-ca-file=@files/ca.pem", "--bcrypt-cost=4", "--listen-client-http-urls=https://@http"),
		"nameless server":    with(slices.Concat(demanding, []string{"--bcrypt-cost=4", "--listen-client-http-urls=https://@http", "--cert-file=@files/nameless.pem", "--key-file=@files/nameless.key"})...),
		"gateway's own pair": with(slices.Concat(demanding, []string{"--bcrypt-cost=4", "--listen-client-http-urls=https://@http", "--client-cert-file=@files/nameless.pem", "--client-key-file=@files/nameless.key"})...),
		"nobody asked":       with("--bcrypt-cost=4", "--listen-client-http-urls=https://@http"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: args, look: look}.compare(t)
		})
	}
}
