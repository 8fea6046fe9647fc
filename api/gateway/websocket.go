package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/tmc/grpc-websocket-proxy/wsproxy"
	"go.uber.org/zap"
)

// websocketBridge lets a websocket carry a call: each text frame is one request message, each reply line one frame. A
// call that takes one message is made with the first frame, and the websocket closes after the reply.
func websocketBridge(next http.Handler, maxBytes int64, log *zap.Logger) http.Handler {
	const lineBytesMax = math.MaxInt32 // of one reply: as much as gRPC lets through
	return wsproxy.WebsocketProxy(next,
		wsproxy.WithRequestMutator(func(_, outgoing *http.Request) *http.Request {
			outgoing.Method = http.MethodPost
			if !slices.Contains(streams, outgoing.URL.Path) {
				outgoing.Body = &oneMessage{from: outgoing.Body, maxBytes: maxBytes}
			}
			return outgoing
		}),
		wsproxy.WithMaxRespBodyBufferSize(lineBytesMax),
		wsproxy.WithLogger(bridgeLog{log.Sugar()}))
}

// oneMessage is a body that ends after the first JSON value, where the one it comes from would stay open.
type oneMessage struct {
	from     io.ReadCloser
	maxBytes int64           // of the value, and what comes before it
	rest     *strings.Reader // what is left of the value; nil: not read yet
}

func (m *oneMessage) Read(p []byte) (int, error) {
	if m.rest == nil {
		var message json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(nil, m.from, m.maxBytes)).Decode(&message); err != nil {
			return 0, err
		}
		m.rest = strings.NewReader(string(message))
		// Who does not read on never hears that the websocket is closed. The bridge ends the body with the websocket.
		go io.Copy(io.Discard, m.from)
	}
	return m.rest.Read(p)
}

func (m *oneMessage) Close() error { return m.from.Close() }

// bridgeLog receives what the websocket bridge has to say. Broken connections are no business of the operator's, and
// payloads none of the log's.
type bridgeLog struct{ log *zap.SugaredLogger }

func (l bridgeLog) Warnln(args ...any) {
	l.log.Debugw("websocket", "reason", strings.TrimSuffix(fmt.Sprintln(args...), "\n"))
}

func (bridgeLog) Debugln(...any) {}
