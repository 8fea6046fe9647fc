package http1

// Poll is an answer that is waited for: its head is sent, its connection rests.
type Poll struct {
	c    *conn
	gone func()

	// What follows is guarded by c.mu.
	resting  bool // the handler has returned, and the head is sent
	finished bool // before that
	body     []byte
}

// Wait begins an answer whose only piece comes later, with Finish. Its head is sent at once. gone is called, once, if the
// client goes before that, or the connection has to end.
func (x *Exchange) Wait(status int, fields []byte, gone func()) *Poll {
	if x.c.within {
		panic("http1: a handler waits who was to answer at once")
	}
	x.Begin(status, fields)
	p := &Poll{c: x.c, gone: gone}
	x.c.mu.Lock()
	x.c.poll = p
	x.c.mu.Unlock()
	x.poll = p
	return p
}

// Finish ends the answer, with a body that may be empty. It may be called from anywhere, once, and does nothing if the
// client has gone.
func (p *Poll) Finish(body []byte) {
	c := p.c
	c.mu.Lock()
	if c.poll != p {
		c.mu.Unlock()
		return
	}
	if !p.resting {
		p.body, p.finished = body, true
		c.mu.Unlock()
		return
	}
	c.poll = nil
	err := c.write(append(appendChunk(nil, body), lastChunk...))
	goOn := c.input
	c.input = false
	ends := err != nil || c.ends || c.s.isStopping()
	c.mu.Unlock()
	switch {
	case ends:
		c.close()
	case goOn:
		go c.run()
	}
}

// park lets the connection rest until there is an answer. False: it is there already, and in the output.
func (c *conn) park(p *Poll) bool {
	c.mu.Lock()
	if p.finished {
		c.poll = nil
		c.mu.Unlock()
		c.w.out = append(appendChunk(c.w.out, p.body), lastChunk...)
		return false
	}
	p.resting = true
	c.ends = c.w.x.close
	if !c.w.isEmpty() { // the next request is here already: whoever answers goes on with it
		c.input = true
		c.mu.Unlock()
		return true
	}
	c.release()
	c.mu.Unlock()
	c.rest()
	return true
}
