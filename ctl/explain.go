package ctl

// explain adds what to do next to an error, in keelson's manner. etcdctl's errors stay as they are.
func (s *session) explain(err error) error { return err }

// applyContext takes settings from the context that is in use; etcdctl has none.
func (s *session) applyContext() error { return nil }
