// Socket.IO as in its documentation: rooms, one process. POST /pub/ROOM sends the body to all clients in the room.

import http from 'node:http';
import { Server } from 'socket.io';

const server = http.createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (text) => { body += text; });
    request.on('end', () => {
        io.to(request.url.slice('/pub/'.length)).emit('m', body);
        response.end('ok');
    });
});
const io = new Server(server, { serveClient: false });
io.on('connection', (socket) => socket.join(socket.handshake.query.room));
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
