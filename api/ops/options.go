package ops

// Options are the settings of the operational endpoints.
type Options struct {
	Profiling bool   `flag:"enable-pprof" default:"false" help:"Serve profiles under /debug/pprof/ (also on at log level debug)."`
	Metrics   string `flag:"metrics" default:"basic" help:"extensive adds histograms of gRPC latencies."`
}

// Extensive reports whether latency histograms of gRPC calls are wanted. Any word but extensive means basic.
func (o Options) Extensive() bool { return o.Metrics == "extensive" }
