package server

import (
	"context"
	"time"

	"keelson/api/identity"
	"keelson/command"
	"keelson/state/auth"
)

// newIdentity makes the one who finds out who is asking. The node is asked only once it runs.
func (s *Server) newIdentity() (*identity.Identifier, error) {
	c := s.config
	return identity.New(identity.Options{
		Token: c.Auth.Token, TokenTTL: time.Duration(c.Auth.TokenTTLSeconds) * time.Second, BcryptCost: int(c.Auth.BcryptCost),
		CertificateNames: c.ClientTLS.ClientCertAuth,
		Users:            s.engine.machine.Users, CatchUp: s.catchUp, Propose: s.assignToken,
		Clock: s.clock, Chance: s.chance,
	})
}

// catchUp returns when this member has applied all that anybody had acknowledged before.
func (s *Server) catchUp(ctx context.Context) error {
	v, err := s.node.Read(ctx)
	if err != nil {
		return err
	}
	v.Close()
	return nil
}

// assignToken makes a token known to all members.
func (s *Server) assignToken(ctx context.Context, user string, revision uint64, digest []byte) (index uint64, err error) {
	ctx = auth.WithCaller(ctx, auth.Caller{User: user, Revision: revision})
	res, err := s.node.Propose(ctx, &command.TokenAssign{User: user, Digest: digest})
	if err == nil {
		err = res.Refusal
	}
	return res.Index, err
}

// certificatesName reports whether the names in clients' certificates stand for users at the moment.
func (s *Server) certificatesName() bool {
	return s.config.ClientTLS.ClientCertAuth && s.engine.machine.Users().Enabled()
}
