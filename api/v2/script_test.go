package v2

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// Scripts in testdata/scripts are talks with a member of a cluster of one.
//
//	http              each line is METHOD PATH [FORM]; the answer: status, X-Etcd-Index, body. Paths are below /v2/keys.
//	clock SECONDS     moves the clock on
//	expire            the leader looks for what has run out
//	poll NAME PATH    begins a long poll; the answer: status and X-Etcd-Index of its headers
//	next NAME         the next line of a poll; "end": there is none
//	waiting           how many polls wait
//	fill N            so many changes of /filler
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := newService(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.lone.t = t, t
			return s.script(d)
		})
	})
}

func (s *service) script(d *datadriven.TestData) string {
	args := make([]string, len(d.CmdArgs))
	for i, a := range d.CmdArgs {
		args[i] = a.String()
	}
	switch d.Cmd {
	case "http":
		var b strings.Builder
		for line := range strings.Lines(d.Input) {
			method, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			path, form, _ := strings.Cut(rest, " ")
			b.WriteString(s.ask(method, keysPrefix+path, form))
		}
		return b.String()
	case "clock":
		seconds, err := strconv.ParseFloat(args[0], 64)
		if err != nil {
			d.Fatalf(s.t, "%v", err)
		}
		s.clock.move(time.Duration(seconds * float64(time.Second)))
		return ""
	case "expire":
		s.expire()
		return ""
	case "poll":
		resp := s.startPoll(args[0], keysPrefix+strings.TrimSpace(d.Input))
		return fmt.Sprintf("%d %s\n", resp.StatusCode, showIndex(resp))
	case "next":
		if line := s.polls[args[0]].line(s.t); line != "" {
			return line
		}
		return "end\n"
	case "waiting":
		return fmt.Sprintf("%d\n", s.hub.Counts().Waiting)
	case "fill":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			d.Fatalf(s.t, "%v", err)
		}
		for range n {
			s.ask("PUT", keysPrefix+"/filler", "value=x")
		}
		return ""
	}
	d.Fatalf(s.t, "unknown command %s", d.Cmd)
	return ""
}

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
