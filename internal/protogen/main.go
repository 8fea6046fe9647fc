package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	_ "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// files are ours, from the top of the tree.
var files = []string{"api/v3lockpb/v3lock.proto", "api/v3electionpb/v3election.proto"}

// plugins are run one after the other on each file.
var plugins = []string{
	"google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
	"google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
	"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.33.0",
}

const (
	root       = "../.."
	etcdModule = "go.etcd.io/etcd/api/v3"
	etcdPrefix = "etcd/api/" // of the files of etcdModule, as they import each other
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("protogen: ")
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", etcdModule).Output()
	if err != nil {
		log.Fatal(err)
	}
	for _, file := range files {
		if err := generate(file, strings.TrimSpace(string(dir))); err != nil {
			log.Fatalf("%s: %v", file, err)
		}
	}
}

// generate writes the Go code of one file.
func generate(file, etcdDir string) error {
	dir, name := filepath.Split(filepath.Join(root, file))
	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{Accessor: func(path string) (io.ReadCloser, error) {
				if path == name {
					return os.Open(filepath.Join(dir, path))
				}
				if rest, ok := strings.CutPrefix(path, etcdPrefix); ok {
					return os.Open(filepath.Join(etcdDir, rest))
				}
				return nil, protoregistry.NotFound
			}},
			protocompile.ResolverFunc(linked),
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), name)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{name}, ProtoFile: closure(compiled[0]), Parameter: proto.String("paths=source_relative"),
	}
	for _, plugin := range plugins {
		if err := run(plugin, request, dir); err != nil {
			return err
		}
	}
	return nil
}

// linked finds files whose Go code is linked into this program.
func linked(path string) (protocompile.SearchResult, error) {
	d, err := protoregistry.GlobalFiles.FindFileByPath(path)
	return protocompile.SearchResult{Desc: d}, err
}

// closure lists a file behind everything it imports.
func closure(top linker.File) (list []*descriptorpb.FileDescriptorProto) {
	seen := map[string]bool{}
	var visit func(f protoreflect.FileDescriptor)
	visit = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			visit(f.Imports().Get(i).FileDescriptor)
		}
		list = append(list, protodesc.ToFileDescriptorProto(f))
	}
	visit(top)
	return list
}

// run has a plugin write what it makes of request into dir.
func run(plugin string, request *pluginpb.CodeGeneratorRequest, dir string) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "run", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", plugin, err)
	}
	reply := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, reply); err != nil {
		return fmt.Errorf("%s: %w", plugin, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %s", plugin, *reply.Error)
	}
	for _, f := range reply.File {
		if err := os.WriteFile(filepath.Join(dir, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
