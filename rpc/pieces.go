package rpc

import "google.golang.org/grpc/mem"

// pieces are bytes that wait to be sent, in the buffers they came in, which are given back one by one.
type pieces struct {
	list   mem.BufferSlice
	offset int // into list[0]
	bytes  int // that are left
}

// add takes over one reference to each buffer.
func (p *pieces) add(data mem.BufferSlice, bytes int) {
	p.list = append(p.list, data...)
	p.bytes += bytes
}

// appendTo moves n bytes, of which there must be as many, behind b.
func (p *pieces) appendTo(b []byte, n int) []byte {
	p.bytes -= n
	for n > 0 {
		piece := p.list[0].ReadOnlyData()[p.offset:]
		k := min(n, len(piece))
		b = append(b, piece[:k]...)
		n -= k
		p.offset += k
		if k == len(piece) {
			p.drop()
		}
	}
	return b
}

func (p *pieces) drop() {
	p.list[0].Free()
	p.list[0] = nil
	p.list, p.offset = p.list[1:], 0
}

func (p *pieces) free() {
	for len(p.list) > 0 {
		p.drop()
	}
	*p = pieces{}
}
