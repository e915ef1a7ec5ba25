// Draws bars of each server's CPU time per delivery, as a multiple of the floor's CPU time. The SVG does not need other
// files.

const COLOURS = { longtail: '#2a6fb0', nchan: '#b0792a', 'socket.io': '#8a8a8a' };
const [LEFT, BAR, GAP, WIDTH, MOST] = [130, 12, 10, 820, 8];
/** The text behind the longest bar. */
const NAME = 160;

export function plot(results) {
    const groups = new Map();
    for (const result of results) {
        const label = `${result.row} ${result.transport}`;
        groups.set(label, [...(groups.get(label) ?? []), result]);
    }
    const scale = (WIDTH - LEFT - NAME) / MOST;
    const parts = [];
    let y = 40;
    for (const [label, list] of groups) {
        parts.push(`<text x="${LEFT - 8}" y="${y + BAR}" text-anchor="end">${label}</text>`);
        for (const { name, ratio } of list) {
            const width = Math.min(ratio, MOST) * scale;
            parts.push(`<rect x="${LEFT}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${COLOURS[name.split(' ')[0]]}"/>`);
            parts.push(`<text x="${(LEFT + width + 4).toFixed(1)}" y="${y + BAR - 2}">${ratio.toFixed(2)}${ratio > MOST ? ' →' : ''} ${name}</text>`);
            y += BAR + 2;
        }
        y += GAP;
    }
    const floor = LEFT + scale;
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 10}" viewBox="0 0 ${WIDTH} ${y + 10}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
<text x="8" y="18" font-size="13">Server CPU a delivery, as a multiple of one bare write (rows as in the table)</text>
${parts.join('\n')}
<line x1="${floor}" y1="30" x2="${floor}" y2="${y}" stroke="#c33" stroke-dasharray="4 3"/>
<text x="${floor}" y="${y + 8}" text-anchor="middle" fill="#c33">bare</text>
</svg>
`;
}
