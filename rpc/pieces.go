package rpc

import "google.golang.org/grpc/mem"

// Encoded is a message that is encoded already, in one piece; nil: it is to be marshalled as others are. The bytes belong to the
// server from then on.
type Encoded interface {
	Encoded() []byte
}

// outgoing is a message as it is sent: in one piece, or in buffers that are given back.
type outgoing struct {
	whole      []byte
	pieces     mem.BufferSlice
	size       int
	compressed byte
}

func (o *outgoing) free() { o.pieces.Free() }

// appendTo moves the message behind b.
func (o *outgoing) appendTo(b []byte) []byte {
	b = append(b, o.whole...)
	for _, piece := range o.pieces {
		b = append(b, piece.ReadOnlyData()...)
		piece.Free()
	}
	return b
}

// pieces are bytes that wait to be sent, in the buffers they came in, which are given back one by one.
type pieces struct {
	list   mem.BufferSlice
	offset int // into list[0]
	bytes  int // that are left
}

// addBytes takes over bytes that are nobody else's.
func (p *pieces) addBytes(b []byte) {
	p.list = append(p.list, mem.SliceBuffer(b))
	p.bytes += len(b)
}

// add takes over a message.
func (p *pieces) add(o *outgoing) {
	if len(o.whole) > 0 {
		p.addBytes(o.whole)
		return
	}
	p.list = append(p.list, o.pieces...)
	p.bytes += o.size
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
