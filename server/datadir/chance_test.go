package datadir

import "math/rand/v2"

func seeded(n int) *rand.Rand { return rand.New(rand.NewPCG(1, uint64(n))) }
