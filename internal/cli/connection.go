package cli

// Connection is how the flags, the variables and the context in use say that a cluster is reached.
type Connection struct {
	Endpoints          []string
	CACert, Cert, Key  string // files; empty: none
	SkipVerify         bool   // take any certificate of a server
	User, Password     string // empty: nobody
	EndpointsWereGiven bool   // by flag, variable or --context: it is not only where a member listens by default
}

// Connector finds that out, once all flags have been read. It may ask for a password.
type Connector func() (Connection, error)
