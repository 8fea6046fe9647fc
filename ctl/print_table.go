package ctl

import (
	"io"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// tablePrinter draws boxes, for the few answers that are lists of rows.
type tablePrinter struct {
	unsupported
	w io.Writer
}

func (p *tablePrinter) memberList(r *clientv3.MemberListResponse) error {
	titles, rows := memberTable(r)
	return cli.Table(p.w, titles, rows)
}

func (p *tablePrinter) health(list []endpointHealth) error {
	titles, rows := healthTable(list)
	return cli.Table(p.w, titles, rows)
}

func (p *tablePrinter) status(list []endpointStatus) error {
	titles, rows := statusTable(list)
	return cli.Table(p.w, titles, rows)
}

func (p *tablePrinter) hashKV(list []endpointHashKV) error {
	titles, rows := hashKVTable(list)
	return cli.Table(p.w, titles, rows)
}
