package ctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"keelson/internal/cli"
)

// contexts are the clusters that somebody works with, kept in a file of theirs. It holds no passwords.
type contexts struct {
	Current  string             `json:"current,omitempty"`
	Contexts map[string]cluster `json:"contexts,omitempty"`
}

// cluster is how to reach one cluster and as whom.
type cluster struct {
	Endpoints             []string `json:"endpoints,omitempty"`
	CACert                string   `json:"cacert,omitempty"`
	Cert                  string   `json:"cert,omitempty"`
	Key                   string   `json:"key,omitempty"`
	User                  string   `json:"user,omitempty"`
	InsecureSkipTLSVerify bool     `json:"insecure-skip-tls-verify,omitempty"`
}

// Variables that say where the contexts are kept and which is in use.
const (
	contextsVariable = "KEELSON_CONTEXTS"
	contextVariable  = "KEELSON_CONTEXT"
)

// contextsFile is where the contexts are kept.
func (s *session) contextsFile() (string, error) {
	if path := s.variable(contextsVariable); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for contexts: %w; set %s to a file", err, contextsVariable)
	}
	return filepath.Join(dir, "keelson", "contexts.yaml"), nil
}

// loadContexts reads the file; none is as good as an empty one.
func (s *session) loadContexts() (contexts, string, error) {
	var all contexts
	path, err := s.contextsFile()
	if err != nil {
		return all, "", err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, path, nil
	}
	if err != nil {
		return all, path, err
	}
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		return all, path, fmt.Errorf("%s is not a file of contexts: %w; correct it, or remove it and make the contexts anew", path, err)
	}
	return all, path, nil
}

// save replaces the file as a whole.
func (all contexts) save(path string) error {
	text, err := yaml.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// applyContext takes what neither flags nor variables say from the context that is in use. etcdctl has no contexts.
func (s *session) applyContext() error {
	if s.plain {
		return nil
	}
	all, path, err := s.loadContexts()
	if err != nil {
		return err
	}
	name := s.flags.context
	if name == "" {
		name = s.variable(contextVariable)
	}
	if name == "" {
		name = all.Current
	}
	if name == "" {
		return nil
	}
	c, ok := all.Contexts[name]
	if !ok {
		return cli.Fail(cli.ExitBadArgs, "there is no context %q in %s (there are: %s); make it with: keelson context set %s --endpoints ...",
			name, path, strings.Join(all.names(), ", "), name)
	}
	if !s.flags.given("endpoints") {
		s.contextOf = name
	}
	for flag, value := range map[string]string{"cacert": c.CACert, "cert": c.Cert, "key": c.Key, "user": c.User, "endpoints": strings.Join(c.Endpoints, ",")} {
		if value != "" && !s.flags.given(flag) {
			s.flags.set.Lookup(flag).Value.Set(value)
		}
	}
	if c.InsecureSkipTLSVerify && !s.flags.given("insecure-skip-tls-verify") {
		s.flags.insecureSkipVerify = true
	}
	return nil
}

func (all contexts) names() []string { return slices.Sorted(mapKeys(all.Contexts)) }

func (s *session) contextCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the contexts; a star marks the one in use", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, args []string) error {
		all, _, err := s.loadContexts()
		if err != nil {
			return err
		}
		for _, name := range all.names() {
			mark := " "
			if name == all.Current {
				mark = "*"
			}
			fmt.Fprintf(s.out, "%s %s  %s\n", mark, name, strings.Join(all.Contexts[name].Endpoints, ","))
		}
		return nil
	}}
	show := &cobra.Command{Use: "show NAME", Short: "Show what a context says", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return s.withContext(args[0], func(all *contexts, c cluster) (bool, error) {
			text, err := yaml.Marshal(c)
			fmt.Fprintf(s.out, "%s", text)
			return false, err
		})
	}}
	use := &cobra.Command{Use: "use NAME", Short: "Use a context from now on; an empty name uses none", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if args[0] == "" {
			return s.changeContexts(func(all *contexts) { all.Current = "" })
		}
		return s.withContext(args[0], func(all *contexts, c cluster) (bool, error) {
			all.Current = args[0]
			fmt.Fprintf(s.out, "using %s: %s\n", args[0], strings.Join(c.Endpoints, ","))
			return true, nil
		})
	}}
	remove := &cobra.Command{Use: "remove NAME", Short: "Forget a context; the cluster is not touched", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return s.withContext(args[0], func(all *contexts, c cluster) (bool, error) {
			delete(all.Contexts, args[0])
			if all.Current == args[0] {
				all.Current = ""
			}
			fmt.Fprintf(s.out, "forgot %s\n", args[0])
			return true, nil
		})
	}}
	cmd := s.family("context", "Clusters that you work with, by name", groupUtility, list, show, use, s.contextSetCommand(), remove)
	cmd.Short = "Clusters that you work with, by name: endpoints, certificates, user"
	return cmd
}

func (s *session) contextSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set NAME", Short: "Make or change a context from the flags --endpoints, --cacert, --cert, --key, --user, --insecure-skip-tls-verify", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := &s.flags
			if strings.Contains(f.user, ":") {
				return cli.Fail(cli.ExitBadArgs, "a context keeps no passwords: give --user NAME alone, and you will be asked")
			}
			return s.changeContexts(func(all *contexts) {
				if all.Contexts == nil {
					all.Contexts = map[string]cluster{}
				}
				c := all.Contexts[args[0]]
				for _, file := range []struct {
					flag string
					from string
					to   *string
				}{{"cacert", f.cacert, &c.CACert}, {"cert", f.cert, &c.Cert}, {"key", f.key, &c.Key}} {
					if f.given(file.flag) {
						*file.to = absolute(file.from)
					}
				}
				if f.given("user") {
					c.User = f.user
				}
				if f.given("endpoints") || len(c.Endpoints) == 0 {
					c.Endpoints = f.endpoints
				}
				if f.given("insecure-skip-tls-verify") {
					c.InsecureSkipTLSVerify = f.insecureSkipVerify
				}
				all.Contexts[args[0]] = c
				if all.Current == "" {
					all.Current = args[0]
				}
				fmt.Fprintf(s.out, "context %s: %s\n", args[0], strings.Join(c.Endpoints, ","))
			})
		},
	}
}

// absolute makes a file's name independent of where the command runs.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil && path != "" {
		return full
	}
	return path
}

// changeContexts loads, changes and saves.
func (s *session) changeContexts(change func(all *contexts)) error {
	all, path, err := s.loadContexts()
	if err != nil {
		return err
	}
	change(&all)
	return all.save(path)
}

// withContext finds a context by name; f says whether it has changed something that is to be saved.
func (s *session) withContext(name string, f func(all *contexts, c cluster) (changed bool, err error)) error {
	all, path, err := s.loadContexts()
	if err != nil {
		return err
	}
	c, ok := all.Contexts[name]
	if !ok {
		return cli.Fail(cli.ExitBadArgs, "there is no context %q in %s (there are: %s); make it with: keelson context set %s --endpoints ...", name, path, strings.Join(all.names(), ", "), name)
	}
	changed, err := f(&all, c)
	if err != nil || !changed {
		return err
	}
	return all.save(path)
}
