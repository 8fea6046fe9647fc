package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one field of a Config that has a flag: its tags, and the way to its value.
type setting struct {
	name    string   // flag name; empty: it can only be set in a file
	initial string   // default, as a flag would give it
	unit    string   // unit of the number; empty: none, or part of the value
	help    string   // one line
	section string   // heading in the help: the section's field name
	key     []string // path in a configuration file; nil: not settable there
	one     []string // the only values that a flag may give; nil: any
	field   reflect.Value
}

// none in a tag means that there is no such way to give the setting.
const none = "-"

// textual is a value that reads and prints itself.
type textual interface {
	Set(s string) error
	String() string
}

var (
	errSyntax = errors.New("parse error")
	errRange  = errors.New("value out of range")
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	stringsType  = reflect.TypeFor[[]string]()
)

// settings lists every field of c that has a flag, in the order of declaration.
func settings(c *Config) []*setting {
	var list []*setting
	sections := reflect.ValueOf(c).Elem()
	for i := range sections.NumField() {
		section := sections.Field(i)
		if section.Kind() != reflect.Struct {
			continue
		}
		for j := range section.NumField() {
			if field := section.Type().Field(j); field.Tag.Get("flag") != "" {
				list = append(list, newSetting(sections.Type().Field(i).Name, field.Tag, section.Field(j)))
			}
		}
	}
	return list
}

func newSetting(section string, tag reflect.StructTag, field reflect.Value) *setting {
	s := &setting{
		name:    tag.Get("flag"),
		initial: tag.Get("default"),
		unit:    tag.Get("unit"),
		help:    tag.Get("help"),
		section: section,
		field:   field,
	}
	if s.name == none {
		s.name = ""
	}
	switch key := tag.Get("key"); key {
	case none:
	case "":
		s.key = []string{s.name}
	default:
		s.key = strings.Split(key, ".")
	}
	if one := tag.Get("one"); one != "" {
		s.one = strings.Split(one, ",")
	}
	return s
}

// title is the flag name, or the path in a file of one that has none.
func (s *setting) title() string {
	if s.name == "" {
		return strings.Join(s.key, ".")
	}
	return s.name
}

// variable is the name of the environment variable.
func (s *setting) variable() string { return variableName(s.name) }

func variableName(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// IsBoolFlag lets the flag package take the setting without a value.
func (s *setting) IsBoolFlag() bool { return s.field.Kind() == reflect.Bool }

// Set gives the setting the value that text stands for, as a flag or variable writes it.
func (s *setting) Set(text string) error {
	if s.one != nil && !slices.Contains(s.one, text) {
		if s.name == "v2-deprecation" {
			return fmt.Errorf("invalid value %q", text)
		}
		return errors.New("invalid value")
	}
	if value, ok := s.field.Addr().Interface().(textual); ok {
		return value.Set(text)
	}
	switch kind := s.field.Kind(); {
	case s.field.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return errSyntax
		}
		s.field.SetInt(int64(d))
	case s.field.Type() == stringsType:
		if text == "" && s.name == "log-outputs" { // no output at all is not meant
			text = s.initial
		}
		s.field.Set(reflect.ValueOf(splitList(text)))
	case kind == reflect.String:
		s.field.SetString(text)
	case kind == reflect.Bool:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return errSyntax
		}
		s.field.SetBool(on)
	case s.field.CanInt():
		n, err := strconv.ParseInt(text, 0, s.field.Type().Bits())
		if err != nil {
			return numberError(err)
		}
		s.field.SetInt(n)
	case s.field.CanUint():
		n, err := strconv.ParseUint(text, 0, s.field.Type().Bits())
		if err != nil && kind == reflect.Uint32 {
			return err // as etcd's flag of this kind does
		}
		if err != nil {
			return numberError(err)
		}
		s.field.SetUint(n)
	default:
		panic(fmt.Sprintf("config: setting %s has type %v, which nothing reads", s.name, s.field.Type()))
	}
	return nil
}

// String is the value as a flag would write it.
func (s *setting) String() string {
	if s == nil || !s.field.IsValid() {
		return "" // the flag package asks a zero value for its default
	}
	if value, ok := s.field.Addr().Interface().(textual); ok {
		return value.String()
	}
	if list, ok := s.field.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(s.field.Interface())
}

func numberError(err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errRange
	}
	return errSyntax
}

// splitList splits at commas, drops what is there twice, and makes nothing of an empty text.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	var list []string
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
