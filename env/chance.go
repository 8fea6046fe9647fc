package env

import (
	"crypto/rand"
	"encoding/binary"
)

// Chance draws the random numbers that ids and tokens are made of. It must not be predictable in production.
type Chance interface {
	// Uint64 draws one number, uniform over all values.
	Uint64() uint64
}

// SystemChance draws from the operating system's generator.
func SystemChance() Chance { return systemChance{} }

type systemChance struct{}

func (systemChance) Uint64() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: it aborts the process instead
	return binary.LittleEndian.Uint64(b[:])
}
