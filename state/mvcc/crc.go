package mvcc

import "hash/crc32"

// CRCs are remainders of polynomials over GF(2), bit-reversed: the highest bit is the coefficient of x^0. To append n
// bytes is to multiply by x^(8n); so the CRC of two pieces one after the other follows from the CRCs of the pieces.

// joinCRC returns the CRC-32C of a piece with CRC a followed by one of length bytes with CRC b.
func joinCRC(a, b uint32, length uint32) uint32 { return multiply(a, shift(length)) ^ b }

// shift returns x^(8n) modulo the polynomial.
func shift(n uint32) uint32 {
	if n < uint32(len(shifts)) {
		return shifts[n]
	}
	p := uint32(1 << 31)
	for k := 0; n > 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			p = multiply(p, powers[k])
		}
	}
	return p
}

// multiply returns a*b modulo the polynomial.
func multiply(a, b uint32) (p uint32) {
	for a != 0 {
		// All or nothing by masks: the bits are as good as random, and branches on them cost.
		p ^= b & uint32(int32(a)>>31)
		a <<= 1
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return p
}

// powers[k] is x^(8 * 2^k); shifts[n] is x^(8n).
var (
	powers = makePowers()
	shifts = makeShifts()
)

func makePowers() (t [32]uint32) {
	t[0] = 1 << 23
	for k := 1; k < len(t); k++ {
		t[k] = multiply(t[k-1], t[k-1])
	}
	return t
}

func makeShifts() (t [1024]uint32) {
	t[0] = 1 << 31
	for n := 1; n < len(t); n++ {
		t[n] = multiply(t[n-1], 1<<23)
	}
	return t
}
