package proxy

import (
	"strings"
	"testing"

	"go.uber.org/zap"
)

// Who demands certificates of clients has to have one to show.
func TestAuthoritiesWithoutACertificate(t *testing.T) {
	o := &grpcOptions{listen: "127.0.0.1:1"}
	if plane, err := o.plane(zap.NewNop()); plane != nil || err != nil {
		t.Errorf("in clear text: %v, %v", plane, err)
	}
	o.serve.ca = "ca.pem"
	if plane, err := o.plane(zap.NewNop()); err == nil || !strings.Contains(err.Error(), "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented") {
		t.Errorf("with authorities: %v, %v", plane, err)
	}
}
