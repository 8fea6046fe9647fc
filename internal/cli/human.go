package cli

import "github.com/dustin/go-humanize"

// Bytes is a size as people read it, in powers of ten: 25 kB.
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.Bytes(uint64(-n))
	}
	return humanize.Bytes(uint64(n))
}
