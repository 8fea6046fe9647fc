package transport

import (
	"flag"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 draws one for each round")
	rounds   = flag.Int("rounds", 3, "rounds of the random tests")
	rewrite  = flag.Bool("rewrite", false, "write the golden files anew")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eachSeed runs f for a number of random seeds, or for the one given by -seed.
func eachSeed(t *testing.T, n int, f func(t *testing.T, r *rand.Rand)) {
	if *seedFlag != 0 {
		n = 1
	}
	for range n {
		seed := *seedFlag
		if seed == 0 {
			seed = rand.Uint64N(1 << 40)
		}
		roundOf(t, seed, f)
	}
}

func roundOf(t *testing.T, seed uint64, f func(t *testing.T, r *rand.Rand)) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d (run again with -seed=%[1]d)", seed)
		}
	}()
	f(t, rand.New(rand.NewPCG(seed, 1)))
	if t.Failed() {
		t.FailNow()
	}
}
