package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"keelson/peer/process"
)

// trios is a cluster of each kind, asked the same at the same time.
type trios struct {
	t     *testing.T
	both  [2]*trio // reference, candidate
	asked int
}

// each does the same to both and demands the same outcome, which it returns.
func (p *trios) each(what any, do func(*trio) (string, error)) string {
	p.t.Helper()
	p.asked++
	var answers [2]string
	var errs [2]error
	var all sync.WaitGroup
	for i, c := range p.both {
		all.Go(func() { answers[i], errs[i] = do(c) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			p.t.Fatalf("%v: %s: %v", what, []string{"etcd", "candidate"}[i], err)
		}
	}
	if answers[0] != answers[1] {
		p.t.Errorf("%v\netcd:      %s\ncandidate: %s", what, answers[0], answers[1])
	}
	return answers[0]
}

func (p *trios) ask(q question) string {
	p.t.Helper()
	return p.each(q, func(c *trio) (string, error) { return c.ask(q) })
}

// askOf asks the member of a place.
func (p *trios) askOf(through int, q question) string {
	p.t.Helper()
	return p.each(fmt.Sprint(q, " of member ", through), func(c *trio) (string, error) { return c.askOf(through, q), nil })
}

// until asks each again and again until the answer is of the form wanted, and then compares.
func (p *trios) until(part string, what any, do func(*trio) (string, error)) {
	p.t.Helper()
	p.each(what, func(c *trio) (answer string, err error) {
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if answer, err = do(c); err != nil || strings.Contains(answer, part) {
				return answer, err
			}
		}
		return "", fmt.Errorf("no %q; at last %s", part, answer)
	})
}

// added are the places of the members that were added and are still there, as the reference lists them.
func (p *trios) added() (places []int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := pb.NewClusterClient(p.both[0].conns[0]).MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		p.t.Fatal(err)
	}
	for place, id := range p.both[0].ids {
		for _, m := range r.Members {
			if place > 2 && m.ID == id {
				places = append(places, place)
			}
		}
	}
	return places
}

func (p *trios) removeAdded() {
	for _, place := range p.added() {
		p.ask(question{"remove", 0, place, nil})
	}
}

// TestClusterAgreement asks a cluster of etcd and one of ours the same things about their members, and demands the same
// answers: what is known to matter, random questions, what a learner that runs refuses and how it becomes a voter, and
// what is left when members are lost.
func TestClusterAgreement(t *testing.T) {
	t.Parallel()
	kind, binary := process.Keelson, *keelsonPath
	if *against == "etcd" {
		kind, binary = process.Etcd, etcdBinary
	}
	p := &trios{t: t, both: [2]*trio{newTrio(t, process.Etcd, etcdBinary), newTrio(t, kind, binary)}}
	// Connections count as healthy after five seconds, and what would fail for another reason anyway shows when.
	known := question{"add learner", 0, 0, []string{"PEER1"}}
	p.until("Peer URLs already exists", known, func(c *trio) (string, error) { return c.ask(known) })
	// A voter that is more than a tenth of the log behind is told so when it is promoted. With a log of a few entries that is
	// any voter, now and then.
	p.each("puts", func(c *trio) (_ string, err error) {
		for range 100 {
			if err == nil {
				_, err = pb.NewKVClient(c.conns[0]).Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
			}
		}
		return "", err
	})
	for _, part := range []struct {
		name string
		run  func(*trios)
	}{
		{"known", knownQuestions}, {"random", randomQuestions}, {"learner", learnerQuestions}, {"moves", leaderMoves}, {"losses", losses},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			p.t = t
			part.run(p)
		}) {
			return
		}
	}
	p.t = t
	t.Logf("%d questions", p.asked)
}

func knownQuestions(p *trios) {
	u := func(list ...string) []string { return list }
	for _, q := range []question{
		{"list", 1, 0, nil},
		{"list here", 2, 0, nil},
		{"add", 0, 0, nil},
		{"add", 0, 0, u("://127.0.0.1:2379")},
		{"add", 0, 0, u("mailto://a:1")},
		{"add", 1, 0, u("http://127.0.0.1")},
		{"add", 0, 0, u("http://127.0.0.1:1/")},
		{"add", 0, 0, u("127.0.0.1:1234")},
		{"add", 0, 0, u("localhost:1234")},
		{"add", 2, 0, u("http://127.0.0.1:5", "localhost:1234")},
		{"add", 0, 0, u("PEER0")},
		{"update", 0, -1, u("://127.0.0.1:2379")},
		{"remove", 1, -1, nil},
		{"promote", 0, -1, nil},
		{"promote", 1, -1, nil},
		{"promote", 2, 0, nil},
		{"promote", 0, 1, nil},
		{"update", 1, 0, u("PEER0")},
		{"update", 2, 0, u("PEER1")},
		{"move", 1, 0, nil},
		{"move", 0, -1, nil},
		{"add learner", 1, 0, u(" http://127.0.0.1:7", "http://127.0.0.1:6 ")},
		{"list", 2, 0, nil},
		{"add learner", 0, 0, u("http://127.0.0.1:8")},
		{"add learner", 0, 0, u("http://127.0.0.1:6")},
		{"add", 0, 0, u("http://127.0.0.1:6")},
	} {
		p.ask(q)
	}
	learner := p.added()[0]
	for _, q := range []question{
		{"promote", 0, learner, nil},
		{"promote", 1, learner, nil},
		{"move", 0, learner, nil},
		{"update", 1, learner, u("http://127.0.0.1:9")},
		{"update", 1, learner, u("http://127.0.0.1:9")},
		{"update", 0, learner, u("PEER2")},
		{"remove", 2, learner, nil},
		{"remove", 0, learner, nil},
		{"update", 0, learner, u("http://127.0.0.1:10")},
		{"promote", 0, learner, nil},
		{"move", 0, learner, nil},
		{"add", 0, 0, u("http://127.0.0.1:11")},
		{"add", 1, 0, u("http://127.0.0.1:12")},
		{"add learner", 1, 0, u("http://127.0.0.1:12", "http://127.0.0.1:15")},
		{"add", 1, 0, u("http://127.0.0.1:13")},
		{"add", 2, 0, u("http://127.0.0.1:14")},
		{"list", 0, 0, nil},
	} {
		p.ask(q)
	}
	p.removeAdded()
}

// randomQuestions are about members that are never started. Never is one of the first three removed: without them there
// is no cluster to ask. Nor does a member that exists get an address that is none, of which etcd dies.
func randomQuestions(p *trios) {
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	p.t.Logf("replay with -seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	one := func(list ...string) string { return list[rng.IntN(len(list))] }
	port := 100
	// An id follows from the addresses and the second, so what is said to the addresses of a member that is or was there
	// depends on when that is; with a new one among them it does not.
	address := func() string {
		port++
		return fmt.Sprint("http://127.0.0.1:", port)
	}
	addresses := map[int][]string{} // of added members
	for range 300 {
		live := p.added()
		q := question{through: rng.IntN(3), place: -1, urls: []string{address()}}
		if len(live) > 0 && rng.IntN(8) > 0 {
			q.place = live[rng.IntN(len(live))]
		}
		q.what = one("add learner", "add learner", "remove", "remove", "update", "promote", "list", "list here", "add", "move")
		switch roll := rng.IntN(8); {
		case roll == 0 && len(live) > 0: // in use
			q.urls = append(q.urls, one(addresses[live[rng.IntN(len(live))]]...))
		case roll == 1:
			q.urls = []string{one("PEER0", "PEER1", "PEER2")}
		case roll == 2 && q.what != "update":
			q.urls = []string{one("", "http://127.0.0.1", "http://127.0.0.1:20/x", "ftp://127.0.0.1:20", "127.0.0.1:20", "http://:20", "https://127.0.0.1:20", "unix://x:20")}
		case roll == 3 && q.what == "promote":
			q.place = rng.IntN(3)
		}
		if q.what == "move" { // to a voter that does not run it takes until the client gives up
			q.place = rng.IntN(4) - 1
		}
		answer := p.ask(q)
		if p.t.Failed() {
			return
		}
		switch {
		case !strings.HasPrefix(answer, "ok"):
		case strings.HasPrefix(q.what, "add"):
			addresses[len(p.both[0].ids)-1] = q.urls
		case q.what == "update":
			addresses[q.place] = q.urls
		}
	}
	p.removeAdded()
}

// learnerQuestions starts a member as a learner, asks it what it must refuse, and promotes it.
func learnerQuestions(p *trios) {
	const place = 3 // among the servers
	for _, c := range p.both {
		c.describe(p.t)
	}
	p.ask(question{"add learner", 1, 0, []string{"PEER3"}})
	learner := p.added()[0]
	p.ask(question{"promote", 0, learner, nil})
	p.each("start", func(c *trio) (string, error) {
		_, err := c.servers[place].Start()
		c.gone[place] = false
		return "", err
	})
	list := question{"list", 2, 0, nil}
	p.until("CLIENT3", list, func(c *trio) (string, error) { return c.ask(list) })
	for _, probe := range probes {
		p.each(probe.name+" on a learner", func(c *trio) (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return c.answer(nil, probe.do(ctx, c.conns[place])), nil
		})
	}
	for _, q := range []question{
		{"list", 0, 0, nil}, {"list here", 0, 0, nil}, {"add", 0, 0, []string{"http://127.0.0.1:30"}}, {"remove", 0, learner, nil},
		{"promote", 0, learner, nil}, {"move", 0, learner, nil}, {"update", 0, learner, []string{"PEER3"}},
	} {
		p.askOf(place, q)
	}
	p.ask(question{"move", 0, learner, nil})
	p.ask(question{"update", 1, learner, []string{"PEER3"}})
	p.sameStatus(4)
	p.until("ok", "promote", func(c *trio) (string, error) { return c.ask(question{"promote", 1, learner, nil}) })
	for _, through := range []int{0, 2} {
		p.ask(question{"promote", through, learner, nil})
	}
	p.until("learner=false", "status of the new voter", func(c *trio) (string, error) { return c.describeStatus(place) })
	p.askOf(place, list)
	p.ask(question{"move", 0, learner, nil})
	p.each("leader", func(c *trio) (string, error) {
		place, err := c.leader()
		return fmt.Sprint(place), err
	})
	p.askOf(place, question{"move", 0, 0, nil})
	p.ask(question{"remove", 2, learner, nil})
	for _, c := range p.both {
		c.gone[place] = true
	}
	p.ask(list)
	// A member that was removed ends by itself.
	p.until("ended", "a removed member", func(c *trio) (string, error) {
		if alive, _ := c.servers[place].Alive(); alive {
			return "runs", nil
		}
		return "ended", nil
	})
}

// sameStatus compares what the first members say of themselves, once all of them have the newest revision.
func (p *trios) sameStatus(members int) {
	p.t.Helper()
	put := func(c *trio) (string, error) {
		// Leaders may be in different places, which is not what is compared here.
		if _, err := c.ask(question{"move", 0, 0, nil}); err != nil {
			return "", err
		}
		if leader, err := c.leader(); err != nil || leader != 0 {
			return "", fmt.Errorf("%d leads, error %v", leader, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r, err := pb.NewKVClient(c.conns[0]).Put(ctx, &pb.PutRequest{Key: []byte("k")})
		return fmt.Sprint("revision ", r.GetHeader().GetRevision(), ", error ", err), nil
	}
	newest := p.each("put", put)
	newest, _, _ = strings.Cut(newest, ", ")
	for i := range members {
		p.until(newest+",", fmt.Sprint("status of ", i), func(c *trio) (string, error) { return c.describeStatus(i) })
	}
}

// leaderMoves moves leadership from each member to each, itself included.
func leaderMoves(p *trios) {
	for _, target := range []int{0, 0, 1, 2, 1, 0, 2, 2, 0} {
		p.ask(question{"move", 0, target, nil})
		p.each("leader", func(c *trio) (string, error) {
			place, err := c.leader()
			return fmt.Sprint(place), err
		})
	}
	p.sameStatus(3)
}

// losses kills members: 1, which can then be removed and nothing else, and 2, which leaves 0 without a quorum.
func losses(p *trios) {
	p.each("kill 1", func(c *trio) (string, error) { return "", c.kill(1) })
	known := question{"add learner", 0, 0, []string{"PEER2"}}
	p.until("unhealthy cluster", known, func(c *trio) (string, error) { return c.askOf(0, known), nil })
	for _, q := range []question{
		{"add", 0, 0, []string{"http://127.0.0.1:40"}},
		{"remove", 0, 0, nil},
		{"remove", 2, 2, nil},
		{"promote", 2, 1, nil},
		{"move", 0, -1, nil},
		{"remove", 2, 1, nil},
		{"remove", 0, 1, nil},
		{"update", 0, 1, []string{"PEER1"}},
		{"list", 2, 0, nil},
	} {
		p.askOf(q.through, q)
	}
	p.sameStatus(1)
	p.each("kill 2", func(c *trio) (string, error) { return "", c.kill(2) })
	p.until("leader -1", "status without a quorum", func(c *trio) (string, error) { return c.describeStatus(0) })
	p.askOf(0, question{"list here", 0, 0, nil})
	p.askOf(0, question{"move", 0, 2, nil})
	for _, probe := range probes {
		if !probe.local {
			continue
		}
		p.each(probe.name+" without a quorum", func(c *trio) (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return c.answer(nil, probe.do(metadata.AppendToOutgoingContext(ctx, "hasleader", "true"), c.conns[0])), nil
		})
	}
}
