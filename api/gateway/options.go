package gateway

// Options are the settings of the JSON gateway and of the checks that stand before all HTTP requests.
type Options struct {
	Enabled       bool     `flag:"enable-grpc-gateway" default:"true" help:"Serve the v3 API as JSON over HTTP under /v3/."`
	Origins       []string `flag:"cors" default:"*" help:"Origins that browsers may call from (*: all)."`
	HostWhitelist []string `flag:"host-whitelist" default:"*" help:"Host names that requests may be addressed to on listeners without TLS (*: all)."`
}
