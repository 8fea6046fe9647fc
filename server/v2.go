package server

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"keelson/api/gateway"
	"keelson/api/v2"
	"keelson/env"
	"keelson/internal/logging"
)

// v2Handler answers requests under /v2; nil: the v2 API is switched off.
func (s *Server) v2Handler() *v2.Handler {
	if !s.config.V2.Enabled {
		return nil
	}
	return v2.NewHandler(v2.Options{
		Member: s.node, Cluster: s.node, Hub: s.tree, Clock: s.clock, Stats: s.treeStats,
		ClusterID: s.engine.dir.Identity.ClusterID,
		Access:    v2.NewAccess(s.node, salt(s.chance), s.config.ClientTLS.ClientCertAuth),
		SetLogLevel: func(l zapcore.Level) {
			s.logger.Info("the lowest level that is logged changes", zap.String("level", l.String()))
			logging.SetLevel(s.logger, l)
		},
		Quota: s.quota, Corrupt: s.node.Corrupt, Token: func() string { return fmt.Sprintf("%x", salt(s.chance)) }, Fields: gateway.SimpleFields(s.config.HTTP),
	})
}

// salt is 16 bytes that nobody knows.
func salt(c env.Chance) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, c.Uint64()), c.Uint64())
}

// newTreeStats begins to count what /v2/stats shows.
func (s *Server) newTreeStats() *v2.Stats {
	return v2.NewStats(func() time.Time { return s.clock.Now().UTC() }, func() (list []v2.PeerTraffic) {
		for _, p := range s.peers.transport.Stats() {
			list = append(list, v2.PeerTraffic{
				ID: p.ID, SentMessages: p.SentMessages, SentBytes: p.SentBytes, ReceivedMessages: p.ReceivedMessages,
				ReceivedBytes: p.ReceivedBytes, SendFailures: p.SendFailures,
			})
		}
		return list
	})
}

// sayPublished says the sentence by which harnesses of v2 clients know that a member is up.
func (s *Server) sayPublished() {
	if s.config.V2.Enabled {
		s.logger.Info("etcdserver: published", zap.String("name", s.config.Member.Name),
			zap.Strings("client-urls", s.config.Cluster.AdvertiseClientURLs.Strings()),
			hexID("cluster-id", s.engine.dir.Identity.ClusterID))
	}
}
