package server

import (
	"net/http"

	"keelson/api/v2"
)

// v2Handler answers requests under /v2; nil: the v2 API is switched off.
func (s *Server) v2Handler() http.Handler {
	if !s.config.V2.Enabled {
		return nil
	}
	return v2.NewHandler(v2.Options{
		Member: s.node, Hub: s.tree, Clock: s.clock, ClusterID: s.engine.dir.Identity.ClusterID,
		Quota: s.quota, Corrupt: s.node.Corrupt,
	})
}
