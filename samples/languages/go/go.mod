module kbridge.example/samples

go 1.19
