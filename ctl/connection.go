package ctl

import "keelson/internal/cli"

// connection tells commands of other packages how the cluster is reached.
func (s *session) connection() (cli.Connection, error) {
	spec, err := s.configure()
	if err != nil {
		return cli.Connection{}, err
	}
	c := cli.Connection{
		Endpoints: spec.Endpoints, CACert: spec.Secure.Cacert, Cert: spec.Secure.Cert, Key: spec.Secure.Key, SkipVerify: spec.Secure.InsecureSkipVerify,
		EndpointsWereGiven: s.flags.given("endpoints") || s.flags.context != "" || s.flags.discoverySRV != "",
	}
	if spec.Auth != nil {
		c.User, c.Password = spec.Auth.Username, spec.Auth.Password
	}
	return c, nil
}
