package rpc

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// FuzzConn says anything to a server behind a proper preface. Whatever it is, the connection ends with the client, and
// nothing of it is left.
func FuzzConn(f *testing.F) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := callFields(unaryPath, "grpc-encoding", "gzip", "a-bin", "AA")
	for i := 0; i < len(fields); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	open := appendHeaderFrames(nil, 1, block.Bytes(), false, frameBytesMax)
	data := append(appendFrameHeader(nil, 5, http2.FrameData, endStream, 1), prefixed("")...)
	whole := append(bytes.Clone(open), data...)
	f.Add(whole)
	f.Add(open)
	f.Add(append(bytes.Clone(whole), appendReset(nil, 1, http2.ErrCodeCancel)...))
	f.Add(append(bytes.Clone(open), appendWindowUpdate(nil, 1, 5)...))
	f.Add(appendSettings(nil, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1}, {ID: http2.SettingHeaderTableSize}}))
	f.Add(appendPing(nil, 0, make([]byte, 8)))
	f.Add(appendGoAway(nil, 1, http2.ErrCodeNo, "bye"))
	f.Add(appendHeaderFrames(nil, 1, block.Bytes(), true, 10))
	server := New(Options{})
	pb.RegisterTestServiceServer(server, interop.NewTestServer())
	f.Cleanup(server.Stop)
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			server.ServeConn(theirs)
			close(ended)
		}()
		go io.Copy(io.Discard, ours)
		ours.SetWriteDeadline(time.Now().Add(10 * time.Second))
		ours.Write([]byte(http2.ClientPreface))
		ours.Write(appendSettings(nil, nil))
		ours.Write(said)
		ours.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection does not end")
		}
		server.handlers.Wait()
	})
}
