package rpc

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/net/http2"
)

// onSettings heeds what the client says of itself. RFC 9113, 6.5.
func (c *conn) onSettings(f *frame) error {
	ack := f.flags.Has(http2.FlagSettingsAck)
	switch {
	case f.stream != 0:
		return violation(http2.ErrCodeProtocol, "settings of a stream")
	case ack && len(f.payload) > 0, len(f.payload)%6 != 0:
		return violation(http2.ErrCodeFrameSize, "settings of %d bytes", len(f.payload))
	}
	c.mu.Lock()
	defer c.unlockAndWake()
	if err := c.noiseLocked(); err != nil || ack {
		return err
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := c.set(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.out = appendSettingsAck(c.out)
	return nil
}

func (c *conn) set(id http2.SettingID, v uint32) error {
	switch id {
	case http2.SettingHeaderTableSize:
		c.response.limitTable(v)
	case http2.SettingEnablePush:
		if v > 1 {
			return violation(http2.ErrCodeProtocol, "ENABLE_PUSH of %d", v)
		}
	case http2.SettingInitialWindowSize:
		return c.setWindow(v)
	case http2.SettingMaxFrameSize:
		if v < 1<<14 || v >= 1<<24 {
			return violation(http2.ErrCodeProtocol, "MAX_FRAME_SIZE of %d", v)
		}
		c.frameMax = min(int(v), outBytesMax)
	case http2.SettingMaxHeaderListSize:
		c.listMax = int64(v)
	}
	return nil
}

// setWindow changes the windows of all streams by as much as that of new ones changes. RFC 9113, 6.9.2.
func (c *conn) setWindow(v uint32) error {
	if v > math.MaxInt32 {
		return violation(http2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE of %d", v)
	}
	change := int64(v) - c.windowInit
	c.windowInit = int64(v)
	for _, s := range c.streams {
		s.out.window += change
		if s.out.window > math.MaxInt32 {
			return violation(http2.ErrCodeFlowControl, "a window larger than there can be")
		}
		c.enlist(s)
	}
	return nil
}

func (c *conn) onWindowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return violation(http2.ErrCodeFrameSize, "a window update of %d bytes", len(f.payload))
	}
	n := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	c.mu.Lock()
	defer c.unlockAndWake()
	if err := c.noiseLocked(); err != nil {
		return err
	}
	if f.stream == 0 {
		c.sendWindow += n
		switch {
		case n == 0:
			return violation(http2.ErrCodeProtocol, "a window update of nothing")
		case c.sendWindow > math.MaxInt32:
			return violation(http2.ErrCodeFlowControl, "a window larger than there can be")
		}
		return nil
	}
	s := c.streams[f.stream]
	if s == nil {
		if f.stream > c.lastID || f.stream%2 == 0 {
			return violation(http2.ErrCodeProtocol, "a window update for a stream that was not opened")
		}
		return nil // the client may not know yet that it is closed
	}
	s.out.window += n
	switch {
	case n == 0:
		return &streamError{s.id, http2.ErrCodeProtocol, "a window update of nothing"}
	case s.out.window > math.MaxInt32:
		return &streamError{s.id, http2.ErrCodeFlowControl, "a window larger than there can be"}
	}
	c.enlist(s)
	return nil
}

func (c *conn) onPriority(f *frame) error {
	switch {
	case f.stream == 0:
		return violation(http2.ErrCodeProtocol, "a priority without a stream")
	case len(f.payload) != 5:
		return &streamError{f.stream, http2.ErrCodeFrameSize, "a priority of another size"}
	case binary.BigEndian.Uint32(f.payload)&^(1<<31) == f.stream:
		return &streamError{f.stream, http2.ErrCodeProtocol, "a stream that depends on itself"}
	}
	return c.makeNoise()
}

func (c *conn) onGoAway(f *frame) error {
	switch {
	case f.stream != 0:
		return violation(http2.ErrCodeProtocol, "GOAWAY of a stream")
	case len(f.payload) < 8:
		return violation(http2.ErrCodeFrameSize, "GOAWAY of %d bytes", len(f.payload))
	}
	return c.makeNoise() // the client opens no more streams, and closes when the others have ended
}

// Pings that come too early, as grpc-go counts them.
const (
	pingStrikesMax = 2
	pingTimeIdle   = 2 * time.Hour // on a connection without calls
)

// drainPing asks whether the client has seen the first GOAWAY.
var drainPing = []byte{1, 6, 1, 8, 0, 3, 3, 9}

func (c *conn) onPing(f *frame) error {
	switch {
	case f.stream != 0:
		return violation(http2.ErrCodeProtocol, "a ping of a stream")
	case len(f.payload) != 8:
		return violation(http2.ErrCodeFrameSize, "a ping of %d bytes", len(f.payload))
	}
	c.mu.Lock()
	defer c.unlockAndWake()
	if err := c.noiseLocked(); err != nil {
		return err
	}
	if f.flags.Has(http2.FlagPingAck) {
		if bytes.Equal(f.payload, drainPing) {
			c.drainFinally()
		}
		return nil
	}
	c.out = appendPing(c.out, http2.FlagPingAck, f.payload)
	now := time.Now()
	last := c.lastPing
	c.lastPing = now
	if c.spoke {
		c.spoke, c.pingStrikes = false, 0
		return nil
	}
	apart := c.server.o.PingTimeMin
	if len(c.streams) == 0 && !c.server.o.IdlePings {
		apart = pingTimeIdle
	}
	if last.Add(apart).After(now) {
		c.pingStrikes++
	}
	if c.pingStrikes > pingStrikesMax {
		return violation(http2.ErrCodeEnhanceYourCalm, "too_many_pings")
	}
	return nil
}
