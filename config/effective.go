package config

import "slices"

// Effective is a setting as it is in effect.
type Effective struct {
	Name  string // of the flag; of one that only a file can give, its path there
	Value string // as a flag would write it
	From  string // flag, an environment variable, file, default, or derived from others
}

const (
	fromDefault = "default"
	fromOthers  = "derived"
	hidden      = "(hidden)"
)

// secrets are settings whose values are nobody's business.
var secrets = []string{"discovery-password", "discovery-token", "discovery"}

// derived are settings whose defaults follow from other settings or the machine.
var derived = []string{"data-dir", "initial-cluster", "initial-advertise-peer-urls", "advertise-client-urls"}

// Explain is Load for people: besides the configuration it returns every setting, in the order of the help, with its
// value and where that comes from.
func Explain(program string, args []string, m Machine) (*Config, []Effective, []Note, error) {
	l, err := load(program, args, m)
	if err != nil {
		return nil, nil, nil, err
	}
	var list []Effective
	for _, s := range l.all {
		e := Effective{Name: s.title(), Value: s.String(), From: l.from[s.title()]}
		if e.From == "" {
			e.From = fromDefault
			if slices.Contains(derived, s.name) && e.Value != s.initial {
				e.From = fromOthers
			}
		}
		if slices.Contains(secrets, s.name) && e.Value != "" {
			e.Value = hidden
		}
		list = append(list, e)
	}
	return l.config, list, l.notes, nil
}
