package v2

import (
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"time"
)

// PeerTraffic is what went to and came from another member since this one has known it.
type PeerTraffic struct {
	ID                      uint64
	SentMessages, SentBytes uint64
	ReceivedMessages        uint64
	ReceivedBytes           uint64
	SendFailures            uint64
}

// Stats are the numbers of /v2/stats that nobody else keeps: since when, and how long answers of other members take. It
// may be used from anywhere.
type Stats struct {
	start   time.Time
	now     func() time.Time
	traffic func() []PeerTraffic

	mu          sync.Mutex
	leader      uint64
	leaderSince time.Time
	latencies   map[uint64]*latency
}

// NewStats begins to count. traffic tells about the other members.
func NewStats(now func() time.Time, traffic func() []PeerTraffic) *Stats {
	return &Stats{start: now(), now: now, traffic: traffic, latencies: map[uint64]*latency{}}
}

// NoteLeader is told who leads; 0: nobody.
func (s *Stats) NoteLeader(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader != id {
		s.leader, s.leaderSince = id, s.now()
	}
}

// NoteRoundTrip is told how long an answer of another member took.
func (s *Stats) NoteRoundTrip(id uint64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.latencies[id]
	if l == nil {
		l = &latency{}
		s.latencies[id] = l
	}
	l.note(float64(d) / float64(time.Millisecond))
}

// latency sums up measurements, in milliseconds.
type latency struct {
	Current           float64 `json:"current"`
	Average           float64 `json:"average"`
	StandardDeviation float64 `json:"standardDeviation"`
	Minimum           float64 `json:"minimum"`
	Maximum           float64 `json:"maximum"`

	count, squares float64 // squares: of the differences to the average, summed
}

func (l *latency) note(ms float64) {
	l.count++
	l.Current = ms
	if l.count == 1 {
		l.Minimum = ms
	}
	l.Minimum, l.Maximum = min(l.Minimum, ms), max(l.Maximum, ms)
	before := ms - l.Average
	l.Average += before / l.count
	l.squares += before * (ms - l.Average)
	l.StandardDeviation = math.Sqrt(l.squares / l.count)
}

// stats answers /v2/stats/self, leader and store.
//
// Source: v2 API specification, 11.3.
func (h *Handler) stats(w http.ResponseWriter, r *http.Request, which string) {
	if !allowed(w, r, http.MethodGet) {
		return
	}
	status := http.StatusOK
	var v any
	switch which {
	case "self":
		v = h.statsSelf()
	case "leader":
		if !h.o.Member.Status().Leading {
			writeMessage(w, http.StatusForbidden, "not current leader")
			return
		}
		v = h.statsLeader()
	case "store":
		v = h.statsStore()
	}
	body, err := json.Marshal(v)
	if err != nil {
		panic("v2: statistics can't be encoded: " + err.Error())
	}
	w.Header()["Content-Type"] = contentJSON
	w.WriteHeader(status)
	w.Write(body)
}

type selfJSON struct {
	Name       string     `json:"name"`
	ID         string     `json:"id"`
	State      string     `json:"state"`
	StartTime  time.Time  `json:"startTime"`
	LeaderInfo leaderInfo `json:"leaderInfo"`

	Received       uint64  `json:"recvAppendRequestCnt"`
	ReceivedRate   float64 `json:"recvPkgRate,omitempty"`
	ReceivedPerSec float64 `json:"recvBandwidthRate,omitempty"`
	Sent           uint64  `json:"sendAppendRequestCnt"`
	SentRate       float64 `json:"sendPkgRate,omitempty"`
	SentPerSec     float64 `json:"sendBandwidthRate,omitempty"`
}

type leaderInfo struct {
	Leader    string    `json:"leader"`
	Uptime    string    `json:"uptime"`
	StartTime time.Time `json:"startTime"`
}

// statsSelf is about this member. Rates are averages since the start.
func (h *Handler) statsSelf() selfJSON {
	s, status := h.o.Stats, h.o.Member.Status()
	now := s.now()
	s.mu.Lock()
	since := s.leaderSince
	s.mu.Unlock()
	v := selfJSON{ID: hex(status.MemberID), State: "StateFollower", StartTime: s.start}
	if m, ok := h.membership().Get(status.MemberID); ok {
		v.Name = m.Name
	}
	switch {
	case status.Leading:
		v.State = "StateLeader"
	case status.Leader == 0:
		v.State = "StateCandidate"
	}
	if status.Leader != 0 {
		v.LeaderInfo = leaderInfo{Leader: hex(status.Leader), Uptime: now.Sub(since).String(), StartTime: since}
	}
	var sentBytes, receivedBytes uint64
	for _, t := range s.traffic() {
		v.Received += t.ReceivedMessages
		v.Sent += t.SentMessages
		sentBytes += t.SentBytes
		receivedBytes += t.ReceivedBytes
	}
	if seconds := now.Sub(s.start).Seconds(); seconds > 0 {
		v.ReceivedRate, v.ReceivedPerSec = float64(v.Received)/seconds, float64(receivedBytes)/seconds
		v.SentRate, v.SentPerSec = float64(v.Sent)/seconds, float64(sentBytes)/seconds
	}
	return v
}

type followerJSON struct {
	Latency latency `json:"latency"`
	Counts  struct {
		Fail    uint64 `json:"fail"`
		Success uint64 `json:"success"`
	} `json:"counts"`
}

type leaderJSON struct {
	Leader    string                  `json:"leader"`
	Followers map[string]followerJSON `json:"followers"`
}

// statsLeader is about the other members, as this one, which leads, knows them.
func (h *Handler) statsLeader() leaderJSON {
	s := h.o.Stats
	v := leaderJSON{Leader: hex(h.o.Member.Status().MemberID), Followers: map[string]followerJSON{}}
	for _, t := range s.traffic() {
		var f followerJSON
		f.Counts.Fail, f.Counts.Success = t.SendFailures, t.SentMessages
		s.mu.Lock()
		if l := s.latencies[t.ID]; l != nil {
			f.Latency = *l
		}
		s.mu.Unlock()
		v.Followers[hex(t.ID)] = f
	}
	return v
}

// storeJSON has nothing but whole numbers: there are clients that take it for a map of them.
type storeJSON struct {
	GetsSuccess             uint64 `json:"getsSuccess"`
	GetsFail                uint64 `json:"getsFail"`
	SetsSuccess             uint64 `json:"setsSuccess"`
	SetsFail                uint64 `json:"setsFail"`
	DeleteSuccess           uint64 `json:"deleteSuccess"`
	DeleteFail              uint64 `json:"deleteFail"`
	UpdateSuccess           uint64 `json:"updateSuccess"`
	UpdateFail              uint64 `json:"updateFail"`
	CreateSuccess           uint64 `json:"createSuccess"`
	CreateFail              uint64 `json:"createFail"`
	CompareAndSwapSuccess   uint64 `json:"compareAndSwapSuccess"`
	CompareAndSwapFail      uint64 `json:"compareAndSwapFail"`
	CompareAndDeleteSuccess uint64 `json:"compareAndDeleteSuccess"`
	CompareAndDeleteFail    uint64 `json:"compareAndDeleteFail"`
	ExpireCount             uint64 `json:"expireCount"`
	Watchers                uint64 `json:"watchers"`
}

func (h *Handler) statsStore() storeJSON {
	c := h.hub.Counts()
	return storeJSON{
		GetsSuccess: c.GetsDone, GetsFail: c.GetsRefused, SetsSuccess: c.Set.Done, SetsFail: c.Set.Refused,
		DeleteSuccess: c.Delete.Done, DeleteFail: c.Delete.Refused, UpdateSuccess: c.Update.Done, UpdateFail: c.Update.Refused,
		CreateSuccess: c.Create.Done, CreateFail: c.Create.Refused,
		CompareAndSwapSuccess: c.CompareAndSwap.Done, CompareAndSwapFail: c.CompareAndSwap.Refused,
		CompareAndDeleteSuccess: c.CompareAndDelete.Done, CompareAndDeleteFail: c.CompareAndDelete.Refused,
		ExpireCount: c.Expired, Watchers: c.Waiting,
	}
}
