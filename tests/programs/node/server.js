// An HTTP server that says what it was asked, and ends on SIGTERM.
const server = require('http').createServer((request, answer) => {
  let size = 0;
  request.on('data', (data) => { size += data.length; });
  request.on('end', () => answer.end(size ? `${size}\n` : `${request.method} ${request.url}\n`));
});
server.listen(Number(process.argv[2]), '0.0.0.0');
process.on('SIGTERM', () => {
  server.close(() => { console.log('closed'); process.exit(0); });
  server.closeAllConnections();
});
