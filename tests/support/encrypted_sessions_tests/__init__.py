"""What the tests share: servers, stores, fakes, and programs that tests start and kill."""
