package dev

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// fakeVariable makes the test program a fake member, and says of which kind.
const fakeVariable = "KEELSON_FAKE_MEMBER"

const (
	fakeServes   = "serves"   // answers Status until it is told to stop
	fakeFails    = "fails"    // ends at once, with a reason in its log
	fakeStubborn = "stubborn" // does not stop in order
	fakeParent   = "parent"   // runs a fleet of fakes that serve
)

func TestMain(m *testing.M) {
	switch kind := os.Getenv(fakeVariable); kind {
	case "":
		os.Exit(m.Run())
	case fakeParent:
		os.Exit(parentMain(os.Args[1]))
	default:
		os.Exit(Member(func(_ string, args []string) int { return fakeMember(kind, args) }, os.Args[1:]))
	}
}

func fakeMember(kind string, args []string) int {
	if kind == fakeFails {
		fmt.Fprintln(os.Stderr, `{"level":"fatal","msg":"member ended","error":"raftlog: no more"}`)
		return 1
	}
	if kind == fakeStubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	var f fakeMaintenance
	var address string
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "--name":
			fmt.Sscanf(value, "m%d", &f.id)
		case "--listen-client-urls":
			address = strings.TrimPrefix(value, "http://")
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := grpc.NewServer()
	pb.RegisterMaintenanceServer(s, f)
	fmt.Fprintln(os.Stderr, `{"level":"info","msg":"serving"}`)
	s.Serve(l)
	return 1
}

// fakeMaintenance is a member of which the first leads and the third learns.
type fakeMaintenance struct {
	pb.UnimplementedMaintenanceServer
	id uint64
}

func (f fakeMaintenance) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{
		Header: &pb.ResponseHeader{MemberId: f.id, Revision: 7},
		Leader: 1, IsLearner: f.id == 3, RaftTerm: 2, RaftAppliedIndex: 9, DbSize: 3 << 20,
	}, nil
}

// parentMain runs a fleet over dir until it is told to end.
func parentMain(dir string) int {
	os.Setenv(fakeVariable, fakeServes)
	var o Options
	if _, err := fmt.Sscan(os.Args[2], &o.BasePort); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	o.Members, o.DataDir, o.Host = 2, dir, hostDefault
	f, err := newFleet(o, newScreen(os.Stdout, nil))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f.program = os.Args[0]
	return f.run()
}
