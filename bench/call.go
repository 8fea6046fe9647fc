package bench

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// call is one gRPC call. Its fields belong to the connection from start to end.
type call struct {
	path      string
	onMessage func(message []byte) error // for every reply; the bytes are valid during the call. nil: replies are only counted
	onEnd     func(error)                // once, last

	id       uint32
	window   int64
	pending  []byte // held back, or waiting for a stream
	halfOpen bool   // more messages will follow
	taken    uint32 // bytes received and not yet given back to the stream's window
	partial  []byte // a reply that has come in part
	received int    // bytes of data that have come, headers of messages included
	isHeld   bool   // it is in conn.held

	cancelled bool // by onMessage
}

// framed returns the header of a gRPC message.
func framed(length int) []byte {
	var header [messageHeader]byte
	binary.BigEndian.PutUint32(header[1:], uint32(length))
	return header[:]
}

// take cuts data into messages and hands them on. A message within one frame is not copied, one over many frames once.
func (k *call) take(data []byte) error {
	k.received += len(data)
	if k.onMessage == nil {
		return nil
	}
	joined := len(k.partial) > 0
	if joined {
		k.partial = append(k.partial, data...)
		data = k.partial
	}
	whole := false
	for len(data) >= messageHeader {
		length := int(binary.BigEndian.Uint32(data[1:]))
		if data[0] != 0 || length > messageMaxBytes {
			return fmt.Errorf("message with flags %d of %d bytes", data[0], length)
		}
		if len(data) < messageHeader+length {
			break
		}
		if err := k.onMessage(data[messageHeader : messageHeader+length]); err != nil {
			return err
		}
		data = data[messageHeader+length:]
		whole = true
	}
	if whole || !joined {
		k.partial = append(k.partial[:0], data...)
	}
	return nil
}

// replyHeaders is what matters of a reply's headers and trailers.
type replyHeaders struct {
	status  string // grpc-status, empty if not there
	message string // grpc-message
	http    string // :status
}

func (h *replyHeaders) take(field hpack.HeaderField) {
	switch field.Name {
	case "grpc-status":
		h.status = field.Value
	case "grpc-message":
		h.message = field.Value
	case ":status":
		h.http = field.Value
	}
}

// err returns what a trailer says: nil for status 0.
func (h *replyHeaders) err() error {
	switch {
	case h.status == "0":
		return nil
	case h.status == "":
		return fmt.Errorf("HTTP status %q without a gRPC status", h.http)
	}
	code, err := strconv.Atoi(h.status)
	if err != nil {
		return fmt.Errorf("gRPC status %q", h.status)
	}
	return fmt.Errorf("gRPC status %d: %s", code, h.message)
}
