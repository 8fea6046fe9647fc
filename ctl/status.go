package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// memberReport is what keelson status says of one member.
type memberReport struct {
	Name       string   `json:"name"`
	ID         string   `json:"id"`
	Endpoint   string   `json:"endpoint"`
	Role       string   `json:"role"` // leader, follower, learner, unreachable, unstarted
	LatencyMS  float64  `json:"latency_ms"`
	Lag        uint64   `json:"lag"` // entries that the member furthest ahead has applied and this one has not
	DBSize     int64    `json:"db_size"`
	DBQuota    int64    `json:"db_quota"`
	Version    string   `json:"version"`
	Alarms     []string `json:"alarms,omitempty"`
	Error      string   `json:"error,omitempty"`
	applied    uint64
	revision   int64
	term       uint64
	statusErrs []string
}

// problem is something to be done, with how.
type problem struct {
	What string `json:"what"`
	Next string `json:"next"`
}

type clusterReport struct {
	Cluster  string         `json:"cluster"`
	Revision int64          `json:"revision"`
	Term     uint64         `json:"term"`
	Leader   string         `json:"leader"`
	Members  []memberReport `json:"members"`
	Problems []problem      `json:"problems"`
}

// Thresholds above which something deserves a word.
const (
	lagWorth     = 1000
	latencyWorth = 200.0 // ms
	quotaWorth   = 0.8
)

func (s *session) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "One look at a cluster: members, leader, lag, latency, disk, alarms, and what to do about each", GroupID: groupLook,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return s.status() },
	}
}

func (s *session) status() error {
	spec, err := s.configure()
	if err != nil {
		return err
	}
	c, err := s.dial(spec, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	report, err := s.clusterReport(c, spec)
	if err != nil {
		return err
	}
	if s.flags.writeOut == "json" {
		b, err := json.Marshal(report)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.out, string(b))
	} else {
		s.printReport(report)
	}
	if len(report.Problems) > 0 {
		return cli.Silent(cli.ExitError)
	}
	return nil
}

// clusterReport asks every member. The list of members is read locally, so that a cluster without a quorum shows, too.
func (s *session) clusterReport(c *clientv3.Client, spec *clientv3.ConfigSpec) (*clusterReport, error) {
	ctx, cancel := s.short()
	defer cancel()
	members, err := c.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return nil, err
	}
	r := &clusterReport{Cluster: fmt.Sprintf("%x", members.Header.ClusterId), Problems: []problem{}}
	r.Members = make([]memberReport, len(members.Members))
	alarms := make([][]*pb.AlarmMember, len(members.Members))
	var asking sync.WaitGroup
	for i, m := range members.Members {
		asking.Go(func() { r.Members[i], alarms[i] = s.memberReport(spec, m) })
	}
	asking.Wait()
	slices.SortFunc(r.Members, func(a, b memberReport) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	r.assess(slices.Concat(alarms...))
	return r, nil
}

// memberReport asks one member, at whichever of its addresses answers first in order.
func (s *session) memberReport(spec *clientv3.ConfigSpec, m *pb.Member) (report memberReport, alarms []*pb.AlarmMember) {
	report = memberReport{Name: m.Name, ID: fmt.Sprintf("%x", m.ID), Endpoint: strings.Join(m.ClientURLs, ","), Role: "unreachable"}
	if len(m.ClientURLs) == 0 {
		report.Role = "unstarted"
		return report, nil
	}
	for _, endpoint := range m.ClientURLs {
		one := spec.Clone()
		one.Endpoints = []string{endpoint}
		c, err := s.dial(one, nil)
		if err != nil {
			report.Error = err.Error()
			continue
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), s.flags.commandTimeout/2)
		defer cancel()
		if _, err := c.Status(ctx, endpoint); err != nil { // the connection is made
			report.Error = whyUnreachable(endpoint, err)
			continue
		}
		begun := time.Now()
		status, err := c.Status(ctx, endpoint)
		if err != nil {
			report.Error = err.Error()
			continue
		}
		report.fill(status, time.Since(begun))
		if list, err := c.AlarmList(ctx); err == nil {
			alarms = list.Alarms
		}
		return report, alarms
	}
	return report, nil
}

// whyUnreachable says more than that time has run out, if the network knows more.
func whyUnreachable(endpoint string, err error) string {
	u, bad := url.Parse(endpoint)
	if bad != nil || u.Scheme != "http" && u.Scheme != "https" {
		return err.Error()
	}
	conn, refused := net.DialTimeout("tcp", u.Host, time.Second)
	if refused != nil {
		return refused.Error()
	}
	conn.Close()
	return err.Error() + ", though its port is open"
}

func (m *memberReport) fill(s *clientv3.StatusResponse, latency time.Duration) {
	m.Error = ""
	m.LatencyMS = float64(latency.Microseconds()) / 1000
	m.DBSize, m.DBQuota, m.Version = s.DbSize, s.DbSizeQuota, s.Version
	m.applied, m.revision, m.term, m.statusErrs = s.RaftAppliedIndex, s.Header.Revision, s.RaftTerm, s.Errors
	switch {
	case s.IsLearner:
		m.Role = "learner"
	case s.Leader == s.Header.MemberId:
		m.Role = "leader"
	case s.Leader == 0:
		m.Role = "no leader"
	default:
		m.Role = "follower"
	}
}

// assess completes the report and finds what is wrong.
func (r *clusterReport) assess(alarms []*pb.AlarmMember) {
	var ahead uint64
	voters, working := 0, 0
	for i := range r.Members {
		m := &r.Members[i]
		ahead = max(ahead, m.applied)
		r.Revision, r.Term = max(r.Revision, m.revision), max(r.Term, m.term)
		if m.Role == "leader" {
			r.Leader = m.Name
		}
		if m.Role != "learner" {
			voters++
			if m.Role == "leader" || m.Role == "follower" {
				working++
			}
		}
		for _, a := range alarms {
			if fmt.Sprintf("%x", a.MemberID) == m.ID && !slices.Contains(m.Alarms, a.Alarm.String()) {
				m.Alarms = append(m.Alarms, a.Alarm.String())
			}
		}
	}
	for i := range r.Members {
		m := &r.Members[i]
		if m.applied > 0 {
			m.Lag = ahead - m.applied
		}
		r.assessMember(m)
	}
	if quorum := voters/2 + 1; r.Leader != "" && voters > 2 && working == quorum {
		r.Problems = append(r.Problems, problem{
			fmt.Sprintf("%d of %d voters work, which is just enough: if one more stops, nothing can be written", working, voters),
			"bring back those that are down before you touch the others",
		})
	}
	if r.Leader == "" {
		r.Problems = append(r.Problems, problem{
			fmt.Sprintf("there is no leader: %d of %d voters work, and %d are needed", working, voters, voters/2+1),
			"start the members that are down; if they are lost for good, start one survivor with --force-new-cluster or restore a snapshot",
		})
	}
}

func (r *clusterReport) assessMember(m *memberReport) {
	found := func(what, next string) { r.Problems = append(r.Problems, problem{m.label() + " " + what, next}) }
	switch m.Role {
	case "unreachable":
		found("does not answer ("+m.Error+")", "see whether its process runs and its address can be reached from here: "+m.Endpoint+". Its log says why it stopped")
	case "unstarted":
		found("was added and has never started", "start it with the settings that member add printed, or take it out again: keelson member remove "+m.ID)
	}
	if m.Lag > lagWorth {
		found(fmt.Sprintf("is %d entries behind", m.Lag), "it catches up by itself if its disk and network are fast enough; watch whether the number falls")
	}
	if m.LatencyMS > latencyWorth {
		found(fmt.Sprintf("took %.0f ms to answer", m.LatencyMS), "look at its processor and disk (keelson top, /metrics: etcd_disk_wal_fsync_duration_seconds)")
	}
	if m.DBQuota > 0 && float64(m.DBSize) > quotaWorth*float64(m.DBQuota) {
		found(fmt.Sprintf("uses %d%% of its quota", m.DBSize*100/m.DBQuota), "compact the history, see keelson du for what takes the room, or raise --quota-backend-bytes")
	}
	for _, alarm := range m.Alarms {
		switch alarm {
		case "NOSPACE":
			found("has raised NOSPACE: writes are refused", "keelson compaction REVISION, remove keys (keelson du), then keelson alarm disarm")
		case "CORRUPT":
			found("has raised CORRUPT: its data differs from the others'", "stop it, keelson member remove "+m.ID+", add it again with an empty data directory, then keelson alarm disarm")
		default:
			found("has raised "+alarm, "keelson alarm list")
		}
	}
}

func (m *memberReport) label() string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// size is for people on a terminal, and in bytes for programs.
func (s *session) size(n int64) string {
	if cli.IsTerminal(s.out) {
		return cli.Bytes(n)
	}
	return fmt.Sprint(n)
}

func (s *session) printReport(r *clusterReport) {
	fmt.Fprintf(s.out, "cluster %s  members %d  leader %s  revision %d  term %d\n\n", r.Cluster, len(r.Members), orDash(r.Leader), r.Revision, r.Term)
	rows := [][]string{{"NAME", "ID", "ROLE", "LATENCY", "LAG", "SIZE", "QUOTA", "VERSION", "ALARMS", "ENDPOINT"}}
	for _, m := range r.Members {
		latency, lag, size, quota := "-", "-", "-", "-"
		if m.Error == "" && m.Role != "unstarted" {
			latency, lag, size, quota = fmt.Sprintf("%.1fms", m.LatencyMS), fmt.Sprint(m.Lag), s.size(m.DBSize), s.size(m.DBQuota)
		}
		rows = append(rows, []string{orDash(m.Name), m.ID, m.Role, latency, lag, size, quota, orDash(m.Version),
			orDash(strings.Join(m.Alarms, ",")), orDash(m.Endpoint)})
	}
	cli.Columns(s.out, rows, func(row, column int, cell string) string {
		switch {
		case row == 0:
			return s.paint.Paint(cli.Bold, cell)
		case column == 2 && (cell == "unreachable" || cell == "no leader"), column == 8 && cell != "-":
			return s.paint.Paint(cli.Red, cell)
		case column == 2 && cell == "leader":
			return s.paint.Paint(cli.Green, cell)
		case column == 2 && cell == "unstarted":
			return s.paint.Paint(cli.Yellow, cell)
		}
		return cell
	})
	fmt.Fprintln(s.out)
	if len(r.Problems) == 0 {
		fmt.Fprintln(s.out, s.paint.Paint(cli.Green, "all is well"))
		return
	}
	for _, p := range r.Problems {
		fmt.Fprintf(s.out, "%s\n  next: %s\n", s.paint.Paint(cli.Red, p.What), p.Next)
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
