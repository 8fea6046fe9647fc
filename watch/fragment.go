package watch

// responseOverhead is more than a response takes besides its events: the header and the numbers.
const responseOverhead = 80

// size is at least what the response takes encoded.
func (r *Response) size() int {
	n := responseOverhead
	for _, s := range r.Events {
		n += len(s)
	}
	return n
}

// fragments cuts a response with events into pieces that take less than limitBytes, as far as single events allow.
//
// Source: etcd v3 API, Watch, fragment.
func fragments(r *Response, limitBytes int) []Response {
	var pieces []Response
	var events [][]byte
	size := responseOverhead
	flush := func() {
		piece := *r
		piece.Events, piece.Fragment = events, true
		pieces = append(pieces, piece)
		events, size = nil, responseOverhead
	}
	for _, s := range r.Events {
		start, at := 0, 0 // s[start:at] goes into the open piece
		for at < len(s) {
			n := eventEnd(s[at:])
			if size+n >= limitBytes && size > responseOverhead {
				if at > start {
					events = append(events, s[start:at])
				}
				flush()
				start = at
			}
			size += n
			at += n
		}
		events = append(events, s[start:at])
	}
	flush()
	pieces[len(pieces)-1].Fragment = r.Fragment
	return pieces
}
