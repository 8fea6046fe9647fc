package v2

// Settings are the settings of the v2 API.
type Settings struct {
	Enabled bool `flag:"enable-v2" default:"true" help:"Serve the v2 API under /v2/."`
}
