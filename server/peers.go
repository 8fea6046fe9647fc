package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/api/peer"
	"keelson/config"
	"keelson/server/datadir"
	"keelson/server/mux"
	"keelson/state/members"
	"keelson/transport"
)

// peers is this member's side towards the others: the peer listeners, the transport of raft's messages, and what members
// ask each other.
type peers struct {
	s         *Server
	listeners []listener
	muxes     []*mux.Mux // of listeners with TLS
	http      *http.Server
	transport *transport.Transport
	client    *http.Client
	asking    *peer.Client
	lessor    *peer.Lessor
	promoter  *peer.Promoter
	contacts  []transport.Peer // whom to answer as long as the state does not say
	meeting   sync.Mutex       // held while the transport is told who the others are

	handler atomic.Pointer[http.ServeMux] // nil: not ready yet
	serving sync.RWMutex                  // held by each request, streams too, while it is under way
	running sync.WaitGroup
	closing chan struct{}
}

// listenPeers binds the addresses that other members come to, and answers there that this one is not ready.
func listenPeers(ctx context.Context, s *Server) (*peers, error) {
	p := &peers{s: s, closing: make(chan struct{})}
	var err error
	if p.listeners, err = listenAll(ctx, listening(s.config), s.config.Member.ListenPeerURLs, forPeers); err != nil {
		return nil, errors.Join(err, closeAll(p.listeners))
	}
	p.http = &http.Server{
		Handler: p, ReadHeaderTimeout: s.config.Member.RaftReadTimeout, ErrorLog: zap.NewStdLog(s.logger),
	}
	for _, l := range p.listeners {
		if err := p.serve(l); err != nil {
			p.stop()
			return nil, err
		}
	}
	return p, nil
}

// serve serves other members at one address. Without TLS the HTTP server has the connections as they are: the transport
// knows how to send several pieces at once over them.
func (p *peers) serve(l listener) error {
	p.s.logger.Info("now serving peer/client/metrics", zap.String("traffic", string(forPeers)), zap.String("address", l.Addr().String()))
	if !l.secure {
		p.run(l, func() error { return p.http.Serve(l) })
		return nil
	}
	m, err := l.sorter(p.s.planes.peers, nil, nil, nil)
	if err != nil {
		return err
	}
	p.muxes = append(p.muxes, m)
	p.run(l, m.Serve)
	p.run(l, func() error { return p.http.Serve(m.HTTP()) })
	p.run(l, func() error { return p.http.Serve(m.Secure()) })
	return nil
}

// run runs one server. If it ends before the peers are stopped, the member has failed.
func (p *peers) run(l listener, serve func() error) {
	p.running.Go(func() {
		err := serve()
		select {
		case <-p.closing:
		default:
			p.s.failed.note(fmt.Errorf("listener failed: %s: %w", l.Addr(), err))
		}
	})
}

// ServeHTTP answers other members.
func (p *peers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.serving.RLock()
	defer p.serving.RUnlock()
	h := p.handler.Load()
	if h == nil {
		http.Error(w, "the member is starting", http.StatusServiceUnavailable)
		return
	}
	h.ServeHTTP(w, r)
}

// connect makes the transport. It carries nothing before the node runs and its peers are known.
func (p *peers) connect() error {
	s := p.s
	contacts, err := s.engine.contacts()
	if err != nil {
		if s.engine.isEmpty() {
			return err
		}
		s.logger.Warn("who the other members are is taken from the state", zap.Error(err))
	}
	for _, c := range contacts {
		if c.ID != s.engine.dir.Identity.MemberID {
			p.contacts = append(p.contacts, c)
		}
	}
	security := s.planes.peers.Client()
	p.client = peer.NewHTTP(peer.HTTPOptions{
		Dial: s.toPeers.Dial, TLS: security,
		HandshakeTimeout: s.config.Member.RaftReadTimeout, ReplyTimeout: s.config.Member.RequestTimeout(),
	})
	o := s.transportOptions(s.engine.dir.Identity)
	o.Handler, o.IsRemoved = inbound{p}, s.engine.isRemoved
	o.RoundTrip = func(id uint64, took time.Duration) {
		s.treeStats.NoteRoundTrip(id, took)
		s.measures.noteRoundTrip(id, took)
	}
	p.transport = transport.New(o)
	return nil
}

// transportOptions are for a transport that nothing comes in by.
func (s *Server) transportOptions(id datadir.Identity) transport.Options {
	return transport.Options{
		ClusterID: id.ClusterID, MemberID: id.MemberID,
		Dial: s.toPeers.Dial, TLS: s.planes.peers.Client(),
		ReadTimeout: s.config.Member.RaftReadTimeout, WriteTimeout: s.config.Member.RaftWriteTimeout,
		Version: config.Version, Logger: s.logger,
	}
}

// ready begins to answer other members. The node runs.
func (p *peers) ready() {
	s := p.s
	p.asking = peer.NewClient(peer.ClientOptions{Member: s.node, HTTP: p.client, Clock: s.clock})
	p.lessor = peer.NewLessor(peer.LessorOptions{
		Member: s.node, Local: s.node, Client: p.asking, RequestTimeout: s.config.Member.RequestTimeout(),
	})
	p.promoter = peer.NewPromoter(s.node, s.node, p.asking, s.config.Member.RequestTimeout())
	mux := http.NewServeMux()
	mux.Handle("/raft/", p.transport)
	mux.Handle("/", peer.NewHandler(peer.HandlerOptions{
		Member: s.node, Cluster: s.node, Lessor: p.lessor, Store: timedHashes{s.engine.machine, s.metrics}, Caller: s.identity.Caller,
		Versions: func() peer.Versions {
			v := s.versions()
			view := s.engine.machine.View()
			defer view.Close()
			return peer.Versions{Server: v.Server, Cluster: v.Cluster, Storage: v.Storage, Downgrading: view.Members().Downgrade() != ""}
		},
		Log: s.logger,
	}))
	p.handler.Store(mux)
}

// meet tells the transport who the other members are by now. What it is told of may be overtaken: the start and the first
// changes come at the same time.
func (p *peers) meet(*members.Set) {
	p.meeting.Lock()
	defer p.meeting.Unlock()
	view := p.s.engine.machine.View()
	set := view.Members()
	view.Close()
	var list []transport.Peer
	if len(set.List()) == 0 { // it joins, and has not been given a state
		list = p.contacts
	}
	for _, m := range set.List() {
		if m.ID != p.s.engine.dir.Identity.MemberID && len(m.PeerURLs) > 0 {
			list = append(list, transport.Peer{ID: m.ID, URLs: m.PeerURLs})
		}
	}
	if len(set.List()) > 0 {
		p.s.engine.remember(list)
	}
	p.transport.SetPeers(list)
}

// stop ends all connections, and waits for those who have come by them: they may be reading the member's files.
func (p *peers) stop() {
	close(p.closing)
	if p.lessor != nil {
		p.lessor.Close()
	}
	if p.transport != nil {
		p.transport.Stop()
	}
	p.http.Close()
	for _, m := range p.muxes {
		m.Close()
	}
	closeAll(p.listeners)
	p.running.Wait()
	p.serving.Lock() // when all have gone
	p.handler.Store(nil)
	p.serving.Unlock()
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
}

// inbound is the member as the transport sees it.
type inbound struct{ *peers }

// Receive implements transport.Handler.
func (in inbound) Receive(ms []*raftpb.Message) {
	if n := in.s.running.Load(); n != nil {
		n.Receive(ms...)
	}
}

// ReceiveEntries implements transport.Handler.
func (in inbound) ReceiveEntries(ms []*raftpb.Message) {
	n := in.s.running.Load()
	if n == nil {
		return
	}
	for _, m := range ms {
		if m.GetType() == raftpb.MsgSnap {
			return // a snapshot comes with its state, through Bulk
		}
	}
	n.ReceiveEntries(ms...)
}

// Unreachable implements transport.Handler.
func (in inbound) Unreachable(id uint64) {
	if n := in.s.running.Load(); n != nil {
		n.Unreachable(id)
	}
}

// Bulk implements transport.Handler: a state comes.
func (in inbound) Bulk(ctx context.Context, from uint64, conn io.ReadWriter) {
	in.s.snapshots.receive(ctx, from, conn)
}

// Fetch implements transport.Handler: a member whose store is damaged asks for this one's state.
func (in inbound) Fetch(ctx context.Context, from uint64, conn io.ReadWriter) {
	in.s.snapshots.give(ctx, from, conn)
}

// Removed implements transport.Handler.
func (in inbound) Removed(by uint64) {
	in.s.farewells.note(by)
	in.s.removed.note(errRemoved)
}
