package bench

import (
	"math/rand/v2"
	"sync/atomic"
)

// keyChooser makes the keys of one connection's requests: the prefix and a number of fixed width, so that their order
// is the order of the numbers. Not safe for concurrent use.
type keyChooser struct {
	rng      *rand.Rand
	space    int
	sequence *atomic.Int64 // the number of the next key, shared by all connections; nil: at random
	key      []byte
}

func newKeyChooser(o Options, conn int, sequence *atomic.Int64) *keyChooser {
	k := &keyChooser{rng: rand.New(rand.NewPCG(o.Seed, uint64(conn))), space: o.KeySpace, key: make([]byte, o.KeySize)}
	if o.Sequential {
		k.sequence = sequence
	}
	copy(k.key, o.Prefix)
	for i := len(o.Prefix); i < len(k.key); i++ {
		k.key[i] = '0'
	}
	return k
}

// choose returns the next key, valid until the next call.
func (k *keyChooser) choose() []byte {
	n := 0
	if k.sequence != nil {
		n = int((k.sequence.Add(1) - 1) % int64(k.space))
	} else {
		n = k.rng.IntN(k.space)
	}
	for i := len(k.key) - 1; i >= len(k.key)-keyDigits; i-- {
		k.key[i] = byte('0' + n%10)
		n /= 10
	}
	return k.key
}

// valueOf returns a value that does not compress to nothing.
func valueOf(o Options) []byte {
	rng := rand.New(rand.NewPCG(o.Seed, 1<<63))
	value := make([]byte, o.ValueSize)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	return value
}
