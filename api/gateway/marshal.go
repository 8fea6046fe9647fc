package gateway

import (
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	"keelson/internal/sched"
)

// longBytes is a message that is long to write as JSON.
const longBytes = 64 << 10

// stretched writes large messages while others go first.
type stretched struct{ runtime.Marshaler }

// Marshal implements runtime.Marshaler.
func (s stretched) Marshal(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok && proto.Size(m) >= longBytes {
		batch := sched.Begin()
		defer batch.End()
	}
	return s.Marshaler.Marshal(v)
}
