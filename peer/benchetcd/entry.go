package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// access is what a scenario's servers ask of clients.
type access int

const (
	open      access = 0
	withTLS   access = 1
	withUsers access = 2
)

// entry is how clients of a server are let in.
type entry struct {
	access     access
	roots      *x509.CertPool
	serverArgs []string // flags of the server
	benchArgs  []string // flags of the load generator
	token      string   // of the scenario's own connection, once there are users
}

// The user that the load comes from. It has a role of its own: root is asked nothing.
const (
	loadUser     = "load"
	loadPassword = "load"
)

// newEntry makes what is needed, with files in a directory.
func newEntry(a access, dir string) (*entry, error) {
	e := &entry{access: a}
	if a&withTLS != 0 {
		if err := e.makeCertificate(dir); err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
	}
	if a&withUsers != 0 {
		e.benchArgs = append(e.benchArgs, "--user", loadUser+":"+loadPassword)
	}
	return e, nil
}

// makeCertificate writes a pair that is its own authority.
func (e *entry) makeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	err = errors.Join(
		os.WriteFile(certFile, text, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	e.roots = x509.NewCertPool()
	e.roots.AppendCertsFromPEM(text)
	e.serverArgs = append(e.serverArgs, "--cert-file", certFile, "--key-file", keyFile)
	e.benchArgs = append(e.benchArgs, "--cacert", certFile)
	return err
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (e *entry) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if e.token == "" {
		return nil, nil
	}
	return map[string]string{"token": e.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (e *entry) RequireTransportSecurity() bool { return false }

// credentials are those of the scenario's own connection.
func (e *entry) credentials() grpc.DialOption {
	if e.roots == nil {
		return grpc.WithTransportCredentials(insecure.NewCredentials())
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: e.roots, ServerName: "127.0.0.1"}))
}

// makeUsers makes root, and the user that the load comes from, and has everybody say who he is.
func (e *entry) makeUsers(ctx context.Context, conn *grpc.ClientConn) error {
	if e.access&withUsers == 0 {
		return nil
	}
	c := pb.NewAuthClient(conn)
	for _, do := range []func() error{
		func() error {
			_, err := c.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "root"})
			return err
		},
		func() error { _, err := c.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"}); return err },
		func() error {
			_, err := c.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			return err
		},
		func() error {
			_, err := c.UserAdd(ctx, &pb.AuthUserAddRequest{Name: loadUser, Password: loadPassword})
			return err
		},
		func() error { _, err := c.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: loadUser}); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{
				Name: loadUser, Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("bench/"), RangeEnd: []byte("bench0")},
			})
			return err
		},
		func() error {
			_, err := c.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: loadUser, Role: loadUser})
			return err
		},
		func() error { _, err := c.AuthEnable(ctx, &pb.AuthEnableRequest{}); return err },
	} {
		if err := do(); err != nil {
			return fmt.Errorf("make users: %w", err)
		}
	}
	reply, err := c.Authenticate(ctx, &pb.AuthenticateRequest{Name: loadUser, Password: loadPassword})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	e.token = reply.Token
	return nil
}
