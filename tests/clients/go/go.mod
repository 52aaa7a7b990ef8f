module blobgate.test/client

go 1.19
