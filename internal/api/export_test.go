package api

// Bound has answers be at most so many bytes long.
func (c *Client) Bound(most int64) { c.most = most }
