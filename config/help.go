package config

import (
	"fmt"
	"strings"
)

// usage is the short text that follows a mistake on the command line.
func usage(program string) string {
	return fmt.Sprintf(`Usage:

  %[1]s [flags]
    Start a member.

  %[1]s --version
    Show the version.

  %[1]s -h | --help
    Show all flags.
`, program)
}

// sectionTitles are the headings of the help.
var sectionTitles = map[string]string{
	"Member": "Member", "Cluster": "Clustering", "Discovery": "Discovery", "Compaction": "Compaction",
	"Limits": "Limits", "RPC": "Calls", "Watch": "Watches", "Storage": "Storage", "ClientTLS": "TLS towards clients",
	"PeerTLS": "TLS towards other members", "TLS": "TLS", "Auth": "Authentication", "HTTP": "HTTP", "V2": "v2 API", "Ops": "Operations",
	"Logging": "Logging", "Warnings": "Warnings", "Tracing": "Tracing", "Checks": "Checks", "Unsafe": "Unsafe",
}

// help lists every flag with its default, by section.
func (l *loader) help() string {
	l.reset()
	var b strings.Builder
	section := ""
	for _, s := range l.all {
		if s.name == "" {
			continue
		}
		if s.section != section {
			section = s.section
			fmt.Fprintf(&b, "\n%s:\n\n", sectionTitles[section])
		}
		fmt.Fprintf(&b, "  --%s '%s'%s\n    %s\n", s.name, s.initial, unitSuffix(s.unit), s.help)
	}
	fmt.Fprintf(&b, "\nOther:\n\n")
	fmt.Fprintf(&b, "  --%s ''\n    File to read all settings from instead of flags and environment.\n", flagConfigFile)
	fmt.Fprintf(&b, "  --%s\n    Show the version.\n", flagVersion)
	return strings.TrimPrefix(b.String(), "\n")
}

func unitSuffix(unit string) string {
	if unit == "" {
		return ""
	}
	return " (" + unit + ")"
}
