package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"keelson/state/members"
	"keelson/state/mvcc"
)

// hashBodyBytesMax bounds the body of a request for a hash: a JSON object with one number.
const hashBodyBytesMax = 4 << 10

// hashRequestJSON asks for the hash at a revision; 0: the newest.
type hashRequestJSON struct {
	Revision int64 `json:"revision"`
}

// hashJSON is a hash as etcd's members tell it each other.
type hashJSON struct {
	Header struct {
		ClusterID uint64 `json:"cluster_id,omitempty"`
		MemberID  uint64 `json:"member_id,omitempty"`
		Revision  int64  `json:"revision,omitempty"` // the newest that the member has
		Term      uint64 `json:"raft_term,omitempty"`
	} `json:"header"`
	Hash            uint32 `json:"hash,omitempty"`
	CompactRevision int64  `json:"compact_revision,omitempty"`
	HashRevision    int64  `json:"hash_revision,omitempty"`
}

// hashKV replies with this member's hash at a revision. It computes one at a time: each may take a scan of all pairs.
func (h *Handler) hashKV(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, hashBodyBytesMax)
	if !ok {
		return
	}
	var ask hashRequestJSON
	if err := json.Unmarshal(body, &ask); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	select {
	case h.hashes <- struct{}{}:
		defer func() { <-h.hashes }()
	case <-r.Context().Done():
		writeError(w, r.Context().Err())
		return
	}
	hash, err := h.o.Store.HashKV(ask.Revision)
	if err != nil {
		writeError(w, err)
		return
	}
	st := h.o.Member.Status()
	reply := hashJSON{Hash: hash.Hash, CompactRevision: hash.Compacted, HashRevision: hash.Revision}
	reply.Header.ClusterID, reply.Header.MemberID = st.ClusterID, st.MemberID
	reply.Header.Revision, reply.Header.Term = hash.Current, st.Term
	writeJSON(w, reply)
}

// MemberHash is what came of asking one member for its hash.
type MemberHash struct {
	Member uint64
	Hash   mvcc.Hash
	// Err is why there is no hash: ErrOtherCluster, mvcc.ErrCompacted, mvcc.ErrFuture (it is behind), or that the member
	// could not be asked.
	Err error
}

// Hashes asks all other members at the same time for their hash at a revision, and returns an answer for each, by id.
func (c *Client) Hashes(ctx context.Context, rev mvcc.Revision) []MemberHash {
	v := c.o.Member.ReadLocal()
	list := v.Members().List()
	v.Close()
	local := c.o.Member.Status().MemberID
	var answers []MemberHash
	var others []members.Member
	for _, m := range list {
		if m.ID != local {
			answers, others = append(answers, MemberHash{Member: m.ID}), append(others, m)
		}
	}
	var done sync.WaitGroup
	for i := range others {
		done.Go(func() { answers[i].Hash, answers[i].Err = c.hash(ctx, others[i], rev) })
	}
	done.Wait()
	return answers
}

func (c *Client) hash(ctx context.Context, m members.Member, rev mvcc.Revision) (mvcc.Hash, error) {
	body, err := json.Marshal(hashRequestJSON{rev})
	if err != nil {
		panic("peer: " + err.Error()) // a number always encodes
	}
	reply, err := c.ask(ctx, m.PeerURLs, request{method: http.MethodGet, path: "/members/hashkv", body: body})
	if err != nil {
		return mvcc.Hash{}, err
	}
	var told hashJSON
	if err := json.Unmarshal(reply, &told); err != nil {
		return mvcc.Hash{}, fmt.Errorf("peer: hash of member %x: %w", m.ID, err)
	}
	if told.Header.MemberID != m.ID {
		return mvcc.Hash{}, fmt.Errorf("peer: hash of member %x was asked for, and %x answered", m.ID, told.Header.MemberID)
	}
	h := mvcc.Hash{Hash: told.Hash, Compacted: told.CompactRevision, Revision: told.HashRevision, Current: told.Header.Revision}
	if h.Revision != rev && rev != 0 {
		return mvcc.Hash{}, errors.New("peer: the hash is of another revision")
	}
	return h, nil
}
